from typing import Any

import torch

from sslx.api import Optimizer, option


class SGD(Optimizer):
    """Gradient descent with momentum: v ← m v + gradient, w ← w - lr v. The decay is part of the gradient."""

    momentum: float = option(default=0.9, ge=0, lt=1, help="Weight of earlier gradients in a step (m).")

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        fused = all(weight.is_cuda for group in groups for weight in group["params"])
        return torch.optim.SGD(groups, momentum=self.momentum, fused=fused)
