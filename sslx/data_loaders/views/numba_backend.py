"""Views on the CPU, by the compiled kernel, on as many threads as torch is given.

Threads are Python's, and the compiled code holds no lock of the interpreter. numba's own would need care: one kind ends
the process if two threads enter it, another if it was forked. A sample's views are made by one thread whichever it is,
so their number changes nothing.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sslx.data_loaders.buffers import empty
from sslx.data_loaders.views.draws import PARAMETERS, draw
from sslx.data_loaders.views.filters import quantiles
from sslx.data_loaders.views.kernel import render, to_float
from sslx.data_loaders.views.parameters import base, geometry, law

if TYPE_CHECKING:
    from sslx.data_loaders.views.standard import Standard

_SHARE = 1 << 18  # numbers of the views that one thread makes while another wakes up, some 0.2 ms


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, "sslx-views")  # and the thread that asks


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def make(
    policy: Standard, images: Tensor, index: Tensor, sizes: Tensor | None, seed: int, epoch: int, first: int = 0
) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) uint8 images -> the same as floats, and their views, (N, J, C, h, w)."""
    N, C, H, W = images.shape
    h, w = policy.shape(H, W)
    original = torch.empty(N, C, H, W)
    x = empty(N, policy.count, C, h, w)
    table = np.empty((N, policy.count), PARAMETERS)
    rules, start, edge, radius = law(policy), base(seed, epoch), policy.fill == "edge", policy.radius(h, w)
    drawn_in = geometry(sizes, N, (H, W))
    arrays = [t.numpy() for t in (index.cpu(), images.contiguous(), original, x)]
    normal = quantiles().numpy()

    available = torch.get_num_threads()
    threads = min(available, 1 + x.numel() // _SHARE)
    size = max(1, N if threads == 1 else N // (2 * threads))  # small enough that no thread waits long for the last
    parts = iter(range(0, N, size))  # each thread takes the next

    def work() -> None:
        for begin in parts:
            part = slice(begin, begin + size)
            positions, pictures, floats, views = (array[part] for array in arrays)
            draw(rules, start, positions, drawn_in[part], first, H, W, table[part])
            to_float(pictures.reshape(-1), floats.reshape(-1))
            render(floats, table[part], edge, radius, policy.noise, normal, views)

    others = [_pool(available).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()
    return original, x
