"""Distributions that torch does not have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from sslx.core.errors import ConfigError

__all__ = ["Delta", "diagonal_normal"]


class Delta(Distribution):
    """All mass at one point, as a deterministic encoder returns it. Batch (B,), event (D,).

    It has no density, and its entropy is minus infinity: a method that needs one of them gets a ConfigError.
    """

    arg_constraints: dict[str, Any] = {}
    has_rsample = True

    def __init__(self, point: Tensor) -> None:
        self.point = point
        super().__init__(point.shape[:1], point.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.point

    def entropy(self) -> Tensor:
        raise ConfigError("a deterministic posterior has no entropy to maximize; expected encoder.posterior=gaussian")

    def log_prob(self, value: Tensor) -> Tensor:
        raise ConfigError("a deterministic posterior has no density; expected encoder.posterior=gaussian")

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.point.expand(torch.Size(sample_shape) + self.point.shape)


def diagonal_normal(mean: Tensor, log_variance: Tensor) -> Distribution:
    """N(mean, diag(exp(log_variance))), with all dimensions but the first as one event."""
    normal = Normal(mean, (log_variance / 2).exp(), validate_args=False)
    return Independent(normal, mean.ndim - 1, validate_args=False)
