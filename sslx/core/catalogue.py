"""The catalogue of components: what a name such as `shared-mean` stands for.

The core knows no component by name. `sslx/__init__.py`, which Python runs before any other module of sslx, says where
the catalogue comes from: it is the registry of the installed plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from sslx.core.errors import PluginError


class Resolved(NamedTuple):
    """What a reference such as `shared-mean`, `timm:resnet18` or `./file.py:Class` stands for."""

    cls: type
    use: str  # the reference without its argument, as it is written to a config
    argument: str | None = None  # "resnet18" of "timm:resnet18": the value of the component's required option


class Catalogue(Protocol):
    """Classes by reference, and references by class."""

    def resolve(self, kind: str, reference: str, owner: str = "") -> Resolved:
        """The class of a reference. Raises PluginError.

        Args:
            owner: the package that declares the reference as a default. If several plugins provide the name, its own
                component is used.
        """

    def reference(self, cls: type) -> str:
        """The reference that stands for a class: its registered name, `FILE.py:Class` or `module:Class`."""

    def vouch(self, texts: Iterable[Any]) -> None:
        """Take these as words of the user: code that they name may be executed, wherever else it is named."""

    def on_record(self, trust: bool) -> AbstractContextManager[None]:
        """References inside come from the files of a run: only what is installed or vouched for is executed.

        Args:
            trust: whether the user trusts all code that the files name.
        """


_source: Callable[[], Catalogue] | None = None


def provide(source: Callable[[], Catalogue]) -> None:
    """Say where the catalogue comes from. It is asked each time that a component is looked up."""
    global _source
    _source = source


def catalogue() -> Catalogue:
    """The catalogue in which components are looked up."""
    if _source is None:
        raise PluginError("no catalogue of components was provided")
    return _source()
