"""Everything a plugin may import. Nothing else of sslx is public to plugins.

What needs torch is imported when it is first used: a plugin's record module takes `hookimpl` and `method` from here at
start-up, and that must stay fast.
"""

from __future__ import annotations

from functools import cache as _cache
from types import ModuleType as _Module
from typing import TYPE_CHECKING, Any

from sslx.plugins import record as _record
from sslx.plugins.hookspecs import hookimpl as hookimpl
from sslx.plugins.record import *

if TYPE_CHECKING:
    from sslx.core.public import *
    from sslx.core.training.run import Run as Run
    from sslx.families import *


@_cache
def _heavy() -> dict[str, Any]:
    """What needs torch, by name."""
    from sslx import families
    from sslx.core import public
    from sslx.core.training.run import Run

    found = {**vars(public), **vars(families), "Run": Run}
    return {name: value for name, value in found.items() if name[0] != "_" and not isinstance(value, _Module)}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name[0] != "_" and name in (heavy := _heavy()):
        return heavy[name]
    raise AttributeError(f"sslx.api has no {name!r}")


def __dir__() -> list[str]:
    return sorted({"hookimpl", *_record.__all__, *_heavy()})
