"""The part of the core that plugins use, as `sslx.api` offers it. Imports torch."""

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
    Lazy,
    Likelihood,
    Loader,
    Method,
    Module,
    Objective,
    Posterior,
    Prior,
    Result,
    Source,
    Split,
    ViewPolicy,
)
from sslx.core.options import Component, option, slot
from sslx.core.randomness import Use, bits, key, mix, permutation, seed_of, uniform
from sslx.core.runtime import gather
from sslx.core.terms import Term, Terms
from sslx.core.views import Views

__all__ = [
    "CheckpointError",
    "Component",
    "ConfigError",
    "Context",
    "DataError",
    "Dataset",
    "Decoder",
    "Delta",
    "Encoder",
    "Evaluation",
    "Evaluator",
    "Features",
    "Lazy",
    "Likelihood",
    "Loader",
    "Method",
    "Module",
    "NonFiniteError",
    "Objective",
    "PluginError",
    "Posterior",
    "Prior",
    "Result",
    "Source",
    "Split",
    "SslxError",
    "Term",
    "Terms",
    "Use",
    "ViewPolicy",
    "Views",
    "bits",
    "diagonal_normal",
    "gather",
    "key",
    "mix",
    "option",
    "permutation",
    "seed_of",
    "slot",
    "uniform",
]
