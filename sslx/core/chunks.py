"""Large batches in small memory: a network is applied to one chunk of the batch after the other.

The loss is that of the whole batch, on the outputs of all chunks. A chunk keeps only its input and its output, and is
computed again when its gradient is needed, with the same random numbers. So the gradient is exact (cached gradients,
Gao et al. 2021), and the memory is that of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["chunked"]


class Chunks:
    """What is known of the chunks of a training step."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = False  # whether any part of the method was computed in chunks
        self.normalized = False  # whether such a part has batch normalization, whose statistics are those of a chunk


_CHUNKS: ContextVar[Chunks | None] = ContextVar("chunks", default=None)


@contextmanager
def chunks(size: int | None) -> Iterator[Chunks | None]:
    """Context in which `chunked` splits a batch into parts of this size; none: not at all."""
    found = None if size is None else Chunks(size)
    token = _CHUNKS.set(found)
    try:
        yield found
    finally:
        _CHUNKS.reset(token)


def chunked(part: nn.Module, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """`function(*inputs)`, in chunks of the batch if the training asks for it (`train.chunk`).

    Args:
        part: the module whose weights and buffers the function uses.
        function: treats each element of the batch by itself, apart from batch normalization.
        inputs: a tensor with the batch first, then such tensors, which are split, and anything else, which is not.
    """
    known = _CHUNKS.get()
    if known is None:
        return function(*inputs)
    known.used = True
    known.normalized |= any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in part.modules())
    parts = []
    for start in range(0, len(inputs[0]), known.size):
        some = [each[start : start + known.size] if isinstance(each, Tensor) else each for each in inputs]
        if torch.is_grad_enabled():
            repeat: Any = partial(_contexts, part)
            parts.append(checkpoint(function, *some, use_reentrant=False, context_fn=repeat))
        else:
            parts.append(function(*some))
    return torch.cat(parts)


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _same_buffers(part)


@contextmanager
def _same_buffers(part: nn.Module) -> Iterator[None]:
    """Context that undoes changes of buffers: a chunk that is computed again moves no running statistics again."""
    kept = [(buffer, buffer.clone()) for buffer in part.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
