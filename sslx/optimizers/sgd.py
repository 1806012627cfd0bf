"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import torch

from sslx.api import Optimizer, option


class SGD(Optimizer):
    """v ← m v + gradient, w ← w - lr v. The decay is part of the gradient."""

    momentum: float = option(default=0.9, ge=0, lt=1, help="m: weight of the past in the direction of a step.")

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, momentum=self.momentum)
