"""The parameters that are drawn for views."""

from types import SimpleNamespace

import torch
from torch import Tensor

from sslx.api import Use, key
from sslx.data_loaders.views import torch_backend
from sslx.data_loaders.views.standard import Standard


def sample(
    policy: Standard, index: Tensor, shape: tuple[int, int], seed: int, epoch: int, sizes: Tensor | None = None
) -> SimpleNamespace:
    """The parameters of all views of (N,) samples whose images are stored as (H, W): a tensor for each name."""
    sizes = torch.tensor([shape]).expand(len(index), 2) if sizes is None else sizes
    base = int(key(Use.VIEWS, seed, epoch))
    return SimpleNamespace(
        **torch_backend.sample(policy.law(*shape), index, sizes.contiguous().numpy(), base, 0, *shape)
    )
