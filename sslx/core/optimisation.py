"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer

from sslx.core.config import Training


class LARS(Optimizer):
    """SGD whose step is scaled per layer by |w| / |gradient| (You, Gitman & Ginsburg 2017).

    Vectors (biases, normalisation) are neither scaled nor decayed, as in SimCLR and BYOL.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        if weight.ndim > 1:
            grad = grad.add(weight, alpha=group["weight_decay"])
            norm, grad_norm = weight.norm(), grad.norm()
            scale = torch.where((norm > 0) & (grad_norm > 0), group["trust"] * norm / grad_norm, 1.0)
            grad = grad * scale
        state = self.state[weight]
        momentum = state.setdefault("momentum", torch.zeros_like(weight))
        momentum.mul_(group["momentum"]).add_(grad)
        weight.add_(momentum, alpha=-group["lr"])


def optimizer(training: Training, parameters: list[Parameter]) -> Optimizer:
    """The optimiser that the options ask for."""
    lr, decay = training.lr, training.weight_decay
    if training.optimizer == "lars":
        return LARS(parameters, lr=lr, momentum=training.momentum, weight_decay=decay)
    if training.optimizer == "sgd":
        return SGD(parameters, lr=lr, momentum=training.momentum, weight_decay=decay)
    adam = Adam if training.optimizer == "adam" else AdamW
    return adam(parameters, lr=lr, betas=training.betas, eps=training.eps, weight_decay=decay, fused=True)


def learning_rate(training: Training, step: int, total: int, per_epoch: int) -> float:
    """The rate of a step, a pure function of its number: linear warm-up, then constant or cosine to zero."""
    warmup = round(training.warmup_epochs * per_epoch)
    if step < warmup:
        return training.lr * (step + 1) / warmup
    if training.schedule == "constant":
        return training.lr
    progress = (step - warmup) / max(1, total - warmup)
    return training.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
