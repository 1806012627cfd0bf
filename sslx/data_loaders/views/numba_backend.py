"""Views on the CPU, made by the compiled kernel on as many threads as torch uses.

The threads are Python's, and the compiled code releases the interpreter's lock. numba's own threads are avoided: one of
its threading layers ends the process if two threads enter it, another one after a fork. The views of a sample are made
by one thread, so they do not depend on the number of threads.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslx.data_loaders.buffers import empty
from sslx.data_loaders.views.draws import PARAMETERS, Law, add_noise, draw
from sslx.data_loaders.views.filters import quantiles
from sslx.data_loaders.views.kernel import render, to_float
from sslx.data_loaders.workers import workers

_SHARE = 1 << 18  # numbers of the views that one thread makes while another one wakes up, about 0.2 ms


def make(
    law: Law, images: Tensor, index: Tensor, sizes: NDArray[np.int64], base: int, first: int
) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) uint8 images -> the same as floats, and their views, (N, J, C, h, w)."""
    N, C, H, W = images.shape
    original, x = torch.empty(N, C, H, W), empty(N, law.views, C, *law.size)
    table = np.empty((N, law.views), PARAMETERS)
    arrays = [t.numpy() for t in (index.cpu(), images.contiguous(), original, x)]
    normal = quantiles().numpy()

    available = torch.get_num_threads()
    threads = min(available, 1 + x.numel() // _SHARE)
    size = max(1, N if threads == 1 else N // (2 * threads))  # small enough that no thread waits long for the last
    parts = iter(range(0, N, size))  # each thread takes the next part

    def work() -> None:
        for begin in parts:
            part = slice(begin, begin + size)
            positions, pictures, floats, views = (array[part] for array in arrays)
            draw(law, base, positions, sizes[part], first, H, W, table[part])
            to_float(pictures.reshape(-1), floats.reshape(-1))
            render(floats, table[part], law.edge, law.radius, views)
            if law.noise:
                add_noise(table["noise"][part], law.noise, normal, views)

    others = [workers("views", available - 1).submit(work) for _ in range(threads - 1)]  # and this thread
    work()
    for other in others:
        other.result()
    return original, x
