"""What is done to each view, drawn for a whole batch and as tensors."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor

from sslx.api import Use, key
from sslx.data_loaders.views.draws import PARAMETERS, Law, draw

if TYPE_CHECKING:
    from sslx.data_loaders.views.standard import Standard


@attrs.frozen(eq=False, slots=False)
class Parameters:
    """The fields of `draws.PARAMETERS`, which says more of them: (N, J), and (N, J, 4) where adjustments of colour are.

    They are drawn on the CPU.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    hflip: Tensor
    vflip: Tensor
    angle: Tensor
    factors: Tensor
    order: Tensor
    grey: Tensor
    sigma: Tensor
    solarise: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> Parameters:
        return Parameters(*(values.to(device, non_blocking=True) for values in attrs.astuple(self, recurse=False)))

    def split(self, parts: int) -> list[Parameters]:
        """Of as many parts of the batch, as `Tensor.tensor_split` makes them."""
        fields = (values.tensor_split(parts) for values in attrs.astuple(self, recurse=False))
        return [Parameters(*part) for part in zip(*fields, strict=True)]


def law(policy: Standard) -> Law:
    """The options of a policy, as the compiled code takes them."""
    brightness, contrast, saturation, hue = policy.brightness, policy.contrast, policy.saturation, policy.hue
    return Law(
        crop=policy.crop,
        log_ratio=(math.log(policy.ratio[0]), math.log(policy.ratio[1])),
        ratio=policy.ratio,
        pad=policy.pad,
        hflip=policy.hflip,
        vflip=policy.vflip,
        rotation=policy.rotation,
        low=(max(1 - brightness, 0.0), max(1 - contrast, 0.0), max(1 - saturation, 0.0), -hue),
        high=(1 + brightness, 1 + contrast, 1 + saturation, hue),
        jitter=policy.jitter,
        grey=policy.grey,
        blur=_by_view(policy.blur, policy.count),
        sigma=policy.sigma,
        solarise=_by_view(policy.solarise, policy.count),
    )


def _by_view(probability: float | tuple[float, ...], count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A probability for each view; the last of several holds for all views that follow."""
    several = probability if isinstance(probability, tuple) else (probability,)
    return np.array([several[min(j, len(several) - 1)] for j in range(count)], np.float64)


@functools.lru_cache(maxsize=16)  # asked for with every batch
def base(seed: int, epoch: int) -> int:
    """The key that all keys of an epoch's views extend."""
    return int(key(Use.VIEWS, seed, epoch))


def geometry(sizes: Tensor | None, n: int, shape: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(n, 2) sizes in which crops are drawn: those of the images as they are, unless they had others."""
    return np.full((n, 2), shape, np.int64) if sizes is None else sizes.cpu().long().contiguous().numpy()


def sample(
    policy: Standard,
    index: Tensor,
    shape: tuple[int, int],
    seed: int,
    epoch: int,
    first: int = 0,
    sizes: Tensor | None = None,
) -> Parameters:
    """Draw the parameters of the views, numbered from `first` on, of (N,) samples, of images of (H, W).

    Args:
        sizes: heights and widths that the images had before they were stored as (H, W), (N, 2).
    """
    table = np.empty((len(index), policy.count), PARAMETERS)
    positions, drawn_in = index.cpu().numpy(), geometry(sizes, len(index), shape)
    draw(law(policy), base(seed, epoch), positions, drawn_in, first, *shape, table)
    return Parameters(**{name: torch.from_numpy(table[name].copy()) for name in PARAMETERS.names or ()})
