"""The catalogue of components: what a name such as `shared-mean` stands for.

The core knows no component by name. `sslx/__init__.py`, which Python runs before any other module of sslx, says where
the catalogue comes from: it is the registry of the installed plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

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
