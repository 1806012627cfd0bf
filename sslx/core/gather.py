"""Concatenation of the tensors of all processes, with gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather"]


class _Gather(torch.autograd.Function):
    """All-gather along the first dimension, with the gradient of every process's loss.

    The backward pass sums the gradients that all processes have for this slice. After DDP's average this is exactly the
    gradient of one process with the whole batch. A gather that is detached, or replaces only its own slice, is not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)  # autograd may use the original elsewhere
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def gather(x: Tensor) -> Tensor:
    """(n, ...) of this process -> (n · processes, ...) of all processes in order of rank, with gradients."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    gathered: Tensor = _Gather.apply(x)
    return gathered
