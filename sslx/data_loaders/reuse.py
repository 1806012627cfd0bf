"""Memory that is used again: for a batch of views, the pages of fresh memory cost as much as the views."""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_KEPT = 4  # batches: the one in use and the one being made, of views and of local views
_lock = threading.Lock()
_arrays: list[NDArray[Any]] = []


def empty(*shape: int) -> Tensor:
    """An uninitialised float32 tensor, in memory of an earlier one that nobody holds any more, if there is any.

    A tensor made from an array keeps a reference to it for as long as anything shares its storage. So an array with no
    reference but ours is free.
    """
    size = math.prod(shape)
    with _lock:
        for i in range(len(_arrays)):
            if _arrays[i].size == size and sys.getrefcount(_arrays[i]) <= 2:  # the list's and the argument's
                return torch.from_numpy(_arrays[i]).view(shape)
        _arrays.append(np.empty(size, np.float32))
        del _arrays[:-_KEPT]
        return torch.from_numpy(_arrays[-1]).view(shape)
