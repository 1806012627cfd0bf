"""Batch normalization with the statistics of the joined batch of all processes.

On CUDA this is torch's SyncBatchNorm, whose kernels read the batch least often. It refuses other devices.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from sslx.core.console import say
from sslx.core.gather import gather


def share_statistics(method: nn.Module, device: torch.device) -> None:
    """Give the batch normalization of a method the statistics of all processes, in place.

    Weights and buffers and their names stay the same. Layers whose class has a `forward` of its own are left as they
    are, which is said in a line.
    """
    left = []
    for part in method.modules():
        if not isinstance(part, _BatchNorm) or isinstance(part, _Shared | nn.SyncBatchNorm):
            continue
        if type(part).forward is not _BatchNorm.forward:
            left.append(type(part).__name__)
        elif device.type == "cuda":
            part.__class__ = nn.SyncBatchNorm
            vars(part)["process_group"] = None  # of all processes
        else:
            part.__class__ = type(f"Shared{type(part).__name__}", (_Shared, type(part)), {})
    for name, count in Counter(left).items():
        say(f"train.norm: {count} layers keep the statistics of each process, as {name} has a forward of its own")


class _Shared(_BatchNorm):
    """A layer of batch normalization whose statistics in training are those of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape. In evaluation mode it computes what it did before."""
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        own_mean, own_var = _Moments.apply(x)
        moments = torch.stack([torch.full_like(own_mean, x.numel() / x.shape[1]), own_mean, own_var])
        counts, means, variances = gather(moments[None]).unbind(dim=1)  # (processes, C) each
        n = counts.detach().sum(dim=0)
        mean = (counts * means).sum(dim=0) / n
        var = (counts * (variances + (means - mean).square())).sum(dim=0) / n
        m, v = mean.detach(), var.detach()
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            self.running_mean.lerp_(m, rate)
            self.running_var.lerp_(v * n / (n - 1), rate)
        # torch normalizes by the constants m and v. The gradients that reach x through the mean and the variance come
        # by the weight and the bias, which have the values 1 and 0 before those of the layer.
        weight, bias = ((v + self.eps) / (var + self.eps)).sqrt(), (m - mean) / (v + self.eps).sqrt()
        if self.affine:
            weight, bias = self.weight * weight, self.weight * bias + self.bias
        return batch_norm(x, m, v, weight, bias, training=False, eps=self.eps)


class _Moments(torch.autograd.Function):
    """(B, C, ...) -> mean and biased variance of each channel, (C,), in float32 at least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(x.dtype, torch.float32)
        running = torch.zeros(2, x.shape[1], dtype=dtype, device=x.device)  # its type is that of the result
        mean, var = torch.batch_norm_update_stats(x, running[0], running[1], 0.0)
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, d_mean: Tensor, d_var: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        n = x.numel() / x.shape[1]
        slope = 2 / n * d_var
        constant = d_mean / n - slope * mean
        shape = (-1, *[1] * (x.ndim - 2))
        return torch.addcmul(constant.view(shape), x, slope.view(shape)).to(x.dtype)
