from typing import Any

import torch
from torch import Tensor, nn

from sslx.api import Optimizer, option


class LARS(Optimizer):
    """SGD whose step is scaled per layer by η |w| / |gradient| (You, Gitman & Ginsburg 2017).

    Vectors (biases, normalization) are not scaled, and by default not decayed, as in SimCLR and BYOL.
    """

    momentum: float = option(default=0.9, ge=0, lt=1, help="Weight of earlier gradients in a step.")
    trust: float = option(default=1e-3, gt=0, help="Length of a step relative to that of the weights (η).")

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """One group: the step itself treats vectors differently."""
        return [{"params": [weight for weight in module.parameters() if weight.requires_grad]}]

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return _LARS(groups, self)


class _LARS(torch.optim.Optimizer):
    def __init__(self, groups: list[dict[str, Any]], options: LARS) -> None:
        self.options = options
        super().__init__(groups, {"lr": options.lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group["lr"])

    def _update(self, weight: Tensor, grad: Tensor, lr: Tensor) -> None:
        layer = weight.ndim > 1
        if layer or self.options.decay_vectors:
            grad = grad.add(weight, alpha=self.options.weight_decay)
        if layer:
            norm, grad_norm = weight.norm(), grad.norm()
            grad = grad * torch.where((norm > 0) & (grad_norm > 0), self.options.trust * norm / grad_norm, 1.0)
        momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        momentum.mul_(self.options.momentum).add_(grad)
        weight.sub_(momentum * lr)
