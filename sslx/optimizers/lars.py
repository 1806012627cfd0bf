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
    found_inf: Tensor | None = None  # 1 if a step is to change nothing, as in torch's fused optimizers
    _step_supports_amp_scaling = True

    def __init__(self, groups: list[dict[str, Any]], options: LARS) -> None:
        self.options = options
        super().__init__(groups, {"lr": options.lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            moved = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            for layers in (True, False):
                weights = [weight for weight, _ in moved if (weight.ndim > 1) == layers]
                grads: Any = [grad for weight, grad in moved if (weight.ndim > 1) == layers]
                if not weights:
                    continue
                if layers or self.options.decay_vectors:
                    grads = torch._foreach_add(grads, weights, alpha=self.options.weight_decay)
                self._move(weights, self._scaled(weights, grads) if layers else grads, group["lr"])

    def _scaled(self, weights: list[Tensor], grads: Any) -> Any:
        """The gradients of layers, (n of any shape), times η |w| / |gradient|, or as they are if either norm is 0."""
        norms, grad_norms = (torch.stack(torch._foreach_norm(each)) for each in (weights, grads))
        scales = torch.where((norms > 0) & (grad_norms > 0), self.options.trust * norms / grad_norms, 1.0)
        return torch._foreach_mul(grads, list(scales.unbind()))

    def _move(self, weights: list[Tensor], grads: Any, lr: Tensor) -> None:
        """Momentum, and the step itself."""
        momenta = [self.state[w].setdefault("momentum", torch.zeros_like(w)) for w in weights]
        if self.found_inf is not None:
            torch._fused_sgd_(
                weights, grads, momenta, weight_decay=0.0, momentum=self.options.momentum, lr=lr, dampening=0.0,
                nesterov=False, maximize=False, is_first_step=False, found_inf=self.found_inf,
            )  # fmt: skip
            return
        torch._foreach_mul_(momenta, self.options.momentum)
        torch._foreach_add_(momenta, grads)
        torch._foreach_sub_(weights, torch._foreach_mul(momenta, lr))
