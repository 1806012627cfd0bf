"""A rule as a Python function over finite domains, and the sum that all rules are made of."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sslx.core.public import ConfigError, Constraint

_MOST_MODELS = 100_000  # log_prob takes a row of so many numbers for each set
_MOST_TRIES = 10_000_000  # some seconds of Python


class Predicate(Constraint):
    """A rule that says yes or no to values: log p = log Σ over (v₁…vₙ) that it allows of Πᵢ pᵢ(vᵢ).

    A subclass defines `domains` and `holds`. What it allows is enumerated once, when it is made.
    """

    must_define: ClassVar[tuple[str, ...]] = ("domains", "holds")
    models: Tensor  # (M, n), every combination that the rule allows

    def holds(self, *values: int) -> bool:
        """Whether the rule allows these values, one of `range(d)` for each variable. Called once for each choice."""
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
        self.register_buffer("models", torch.tensor(models), persistent=False)

    def _allows(self, values: Sequence[int]) -> bool:
        if (answer := self.holds(*values)) is None:
            raise ConfigError(f"{type(self).__name__}.holds{values} returned None, expected True or False")
        return bool(answer)

    def log_prob(self, log_p: Sequence[Tensor]) -> Tensor:
        return logsumexp(sum(p[:, v] for p, v in zip(log_p, self.models.unbind(dim=1), strict=True)))  # type: ignore


def logsumexp(x: Tensor) -> Tensor:
    """log Σ exp x over the last dimension, (..., M) -> (...). Where all is -inf the gradient is 0, torch's is NaN."""
    nothing = (x == -torch.inf).all(dim=-1)
    return x.masked_fill(nothing[..., None], 0.0).logsumexp(dim=-1).masked_fill(nothing, -torch.inf)
