"""Memory that is used again: for a batch of images, the pages of fresh memory cost as much as the images."""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor


class Pool:
    """Uninitialised arrays, each of which is given out again once nobody holds it any more.

    A tensor made from an array keeps a reference to it for as long as anything shares its storage, and so does a part
    of it. So an array with no reference but ours is free.

    Args:
        kept: how many arrays are remembered.
    """

    def __init__(self, kept: int) -> None:
        self._kept, self._arrays, self._lock = kept, list[NDArray[Any]](), threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        size, arrays = math.prod(shape), self._arrays
        with self._lock:
            for i in reversed(range(len(arrays))):  # the last used may still be in the cache
                fits = arrays[i].size == size and arrays[i].dtype == dtype
                if fits and sys.getrefcount(arrays[i]) <= 2:  # the list's and the argument's
                    arrays.append(arrays.pop(i))
                    return arrays[-1].reshape(shape)
            arrays.append(np.empty(size, dtype))
            del arrays[: -self._kept]
            return arrays[-1].reshape(shape)


_views = Pool(4)  # batches: the one in use and the one being made, of views and of local views


def empty(*shape: int) -> Tensor:
    """An uninitialised float32 tensor, in memory of an earlier one that nobody holds any more, if there is any."""
    return torch.from_numpy(_views.empty(shape, np.float32))
