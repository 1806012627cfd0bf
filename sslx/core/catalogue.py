"""The catalogue of components, which finds the class for a name such as `shared-mean`.

The core knows no component by name. `sslx/__init__.py`, which Python runs before any other module of sslx, provides the
catalogue: the registry of the installed plugins.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from sslx.core.errors import PluginError


class Resolved(NamedTuple):
    """The class that a reference such as `shared-mean`, `timm:resnet18` or `./file.py:Class` stands for."""

    cls: type
    use: str  # the reference without its argument, as it is written to a config
    argument: str | None = None  # "resnet18" of "timm:resnet18": the value of the component's required option


class Catalogue(Protocol):
    """Finds classes by reference, and references by class."""

    def resolve(self, kind: str, reference: str, owner: str = "") -> Resolved:
        """The class of a reference. Raises PluginError.

        Args:
            owner: the package that declares the reference as a default. If several plugins provide the name, its own
                component is used.
        """

    def reference(self, cls: type) -> str:
        """The reference of a class: its registered name, `FILE.py:Class` or `module:Class`."""

    def vouch(self, texts: Iterable[Any]) -> None:
        """Allow the code that these texts name, which the user wrote. It may then be executed wherever it is named."""

    def on_record(self, trust: bool) -> AbstractContextManager[None]:
        """Treat references inside as read from the files of a run: only installed or vouched code is executed.

        Args:
            trust: whether the user trusts all code that these files name.
        """


_source: Callable[[], Catalogue] | None = None


def provide(source: Callable[[], Catalogue]) -> None:
    """Set the function that returns the catalogue. It is called for each lookup."""
    global _source
    _source = source


def catalogue() -> Catalogue:
    """The catalogue in which components are looked up."""
    if _source is None:
        raise PluginError("no catalogue of components was provided")
    return _source()
