"""Everything a plugin may import. Nothing else of sslx is public to plugins.

What needs torch is imported when it is first used: a plugin's record module takes `hookimpl` and `method` from here at
start-up, and that must stay fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sslx.plugins.registry  # noqa: F401  puts the registry in its place, so that slots can be filled by name
from sslx.plugins.hookspecs import hookimpl as hookimpl
from sslx.plugins.records import Record as Record
from sslx.plugins.records import command as command
from sslx.plugins.records import constraint as constraint
from sslx.plugins.records import dataset as dataset
from sslx.plugins.records import decoder as decoder
from sslx.plugins.records import encoder as encoder
from sslx.plugins.records import energy as energy
from sslx.plugins.records import evaluator as evaluator
from sslx.plugins.records import likelihood as likelihood
from sslx.plugins.records import loader as loader
from sslx.plugins.records import method as method
from sslx.plugins.records import objective as objective
from sslx.plugins.records import posterior as posterior
from sslx.plugins.records import prior as prior
from sslx.plugins.records import tracker as tracker
from sslx.plugins.records import views as views

if TYPE_CHECKING:
    from sslx.core.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        from sslx.core import public

        if name in public.__all__:
            return getattr(public, name)
    raise AttributeError(f"sslx.api has no {name!r}")


def __dir__() -> list[str]:
    from sslx.core import public

    return sorted({*globals(), *public.__all__} - {"Any", "TYPE_CHECKING", "annotations", "sslx"})
