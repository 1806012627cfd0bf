"""sslx: self-supervised and generative representation learning of images, every method a plugin."""

from typing import TYPE_CHECKING, Any

from sslx.core import catalogue as _catalogue

if TYPE_CHECKING:
    from sslx.face import (
        Representation as Representation,
        Run as Run,
        compare as compare,
        evaluate as evaluate,
        load as load,
        make as make,
        open_run as open_run,
        resume as resume,
        run as run,
        score as score,
        views as views,
    )

__version__ = "0.1.0"
_LAZY = ("Representation", "Run", "compare", "evaluate", "load", "make", "open_run", "resume", "run", "score", "views")
__all__ = [*_LAZY, "__version__"]


def _registry() -> _catalogue.Catalogue:
    from sslx.plugins.registry import registry

    return registry()


_catalogue.provide(_registry)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"sslx has no {name!r}")
    _registry()  # plugins are found before torch is imported, so that one that imports it is noticed
    from sslx import face

    return getattr(face, name)


def __dir__() -> list[str]:
    return list(__all__)
