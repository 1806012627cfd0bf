"""Everything a plugin may import. Nothing else of sslx is public to plugins.

Names are imported when they are first used: a plugin's record module takes `hookimpl` and `method` from here at
start-up, and that must not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import sslx.plugins.registry  # noqa: F401  puts the registry in its place, so that slots can be filled by name
from sslx.plugins.hookspecs import hookimpl
from sslx.plugins.records import (
    Record,
    command,
    constraint,
    dataset,
    decoder,
    encoder,
    evaluator,
    likelihood,
    loader,
    method,
    objective,
    posterior,
    prior,
    recipe,
    views,
)

if TYPE_CHECKING:
    from sslx.core.distributions import Delta, diagonal_normal
    from sslx.core.errors import CheckpointError, ConfigError, DataError, NonFiniteError, PluginError, SslxError
    from sslx.core.interfaces import (
        Context,
        Dataset,
        Decoder,
        Encoder,
        Evaluation,
        Evaluator,
        Features,
        Likelihood,
        Loader,
        Method,
        Module,
        Objective,
        Posterior,
        Prior,
        Result,
        Split,
        ViewPolicy,
    )
    from sslx.core.options import Component, option, slot
    from sslx.core.randomness import Use, bits, key, mix, permutation, seed_of, uniform
    from sslx.core.runtime import gather
    from sslx.core.terms import Term, Terms
    from sslx.core.views import Views

_LAZY = {
    "sslx.core.distributions": ("Delta", "diagonal_normal"),
    "sslx.core.errors": ("CheckpointError", "ConfigError", "DataError", "NonFiniteError", "PluginError", "SslxError"),
    "sslx.core.interfaces": (
        "Context",
        "Dataset",
        "Decoder",
        "Encoder",
        "Evaluation",
        "Evaluator",
        "Features",
        "Likelihood",
        "Loader",
        "Method",
        "Module",
        "Objective",
        "Posterior",
        "Prior",
        "Result",
        "Split",
        "ViewPolicy",
    ),
    "sslx.core.options": ("Component", "option", "slot"),
    "sslx.core.randomness": ("Use", "bits", "key", "mix", "permutation", "seed_of", "uniform"),
    "sslx.core.runtime": ("gather",),
    "sslx.core.terms": ("Term", "Terms"),
    "sslx.core.views": ("Views",),
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [  # noqa: PLE0604  the lazy names are listed once, above
    "Record",
    "command",
    "constraint",
    "dataset",
    "decoder",
    "encoder",
    "evaluator",
    "hookimpl",
    "likelihood",
    "loader",
    "method",
    "objective",
    "posterior",
    "prior",
    "recipe",
    "views",
    *_HOME,
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"sslx.api has no {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
