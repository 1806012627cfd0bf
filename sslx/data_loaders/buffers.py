"""Memory that is reused: for a batch of images, fresh memory costs as much time as the images themselves."""

import math
import sys
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor


class Pool:
    """Uninitialized arrays, each of which is handed out again when it is no longer referenced.

    A tensor made from an array keeps a reference to the array for as long as any tensor shares its storage. So an array
    without references other than ours is free.

    Args:
        kept: maximum number of arrays that are remembered.
    """

    def __init__(self, kept: int) -> None:
        self._kept, self._arrays, self._lock = kept, list[NDArray[Any]](), threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        size, arrays = math.prod(shape), self._arrays
        with self._lock:
            for i in reversed(range(len(arrays))):  # the last one used may still be in the CPU's cache
                fits = arrays[i].size == size and arrays[i].dtype == dtype
                if fits and sys.getrefcount(arrays[i]) <= 2:  # those of the list and of the argument
                    arrays.append(arrays.pop(i))
                    return arrays[-1].reshape(shape)
            arrays.append(np.empty(size, dtype))
            del arrays[: -self._kept]
            return arrays[-1].reshape(shape)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on another device, without waiting for what that device still has to do."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


_views = Pool(4)  # batches: the one in use and the one being made, of views and of local views


def empty(*shape: int) -> Tensor:
    """An uninitialized float32 tensor, in the memory of an earlier one that is no longer referenced if there is one."""
    return torch.from_numpy(_views.empty(shape, np.float32))
