"""sslx: self-supervised and generative representation learning of images, every method a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sslx.representation import Representation
    from sslx.session import Run, open_run, resume, run

__version__ = "0.1.0"
__all__ = ["Representation", "Run", "__version__", "open_run", "resume", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"sslx has no {name!r}")
    from sslx.plugins.registry import registry

    registry()  # plugins are found before torch is imported, so that one that imports it is noticed
    if name == "Representation":
        from sslx import representation  # imports torch and scikit-learn

        return representation.Representation
    from sslx import session  # imports torch

    return getattr(session, name)
