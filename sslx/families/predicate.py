"""Rules written as a Python function, and the sum over which all rules are computed."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sslx.core.public import ConfigError, Constraint

_MOST_MODELS = 100_000  # log_prob computes so many numbers for each set
_MOST_TRIES = 10_000_000  # some seconds of Python


class Predicate(Constraint):
    """A rule in Python: a function that allows or forbids each combination of values.

    log p = log Σ Πᵢ pᵢ(vᵢ) over the allowed (v₁…vₙ), which are enumerated once, when the rule is made. A subclass
    defines `domains` and `holds`.
    """

    must_define = ("domains", "holds")

    def holds(self, *values: int) -> bool:
        """Whether the rule allows these values, one of `range(d)` for each variable; called once for each."""
        raise NotImplementedError

    def __attrs_post_init__(self) -> None:
        name = type(self).__name__
        advice = "define log_prob, or write it for ProbLog"
        if (tries := math.prod(self.domains)) > _MOST_TRIES:
            raise ConfigError(f"{name} has {tries} combinations, too many to try (at most {_MOST_TRIES}); {advice}")
        try:
            inspect.signature(self.holds).bind(*self.domains)
        except TypeError as error:
            raise ConfigError(f"{name}.holds: {error}; `domains` has {len(self.domains)} variables") from error
        allowed = (values for values in itertools.product(*map(range, self.domains)) if self._allows(values))
        models = list(itertools.islice(allowed, _MOST_MODELS + 1))
        if not models:
            raise ConfigError(f"{name} allows nothing: `holds` is true of no combination of values")
        if len(models) > _MOST_MODELS:
            raise ConfigError(f"{name} allows more than {_MOST_MODELS} combinations, too many to sum over; {advice}")
        self.models = nn.Buffer(torch.tensor(models), persistent=False)  # (M, n)

    def _allows(self, values: Sequence[int]) -> bool:
        if (answer := self.holds(*values)) is None:
            raise ConfigError(f"{type(self).__name__}.holds{values} returned None, expected True or False")
        return bool(answer)

    def log_prob(self, log_p: Sequence[Tensor]) -> Tensor:
        return logsumexp(sum(p[:, v] for p, v in zip(log_p, self.models.unbind(dim=1), strict=True)))  # type: ignore


def logsumexp(x: Tensor) -> Tensor:
    """log Σ exp x over the last dimension, (..., M) -> (...). If all are -inf the gradient is 0; torch's is NaN."""
    nothing = (x == -torch.inf).all(dim=-1)
    return x.masked_fill(nothing[..., None], 0.0).logsumexp(dim=-1).masked_fill(nothing, -torch.inf)
