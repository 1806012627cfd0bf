"""Views as batched tensor operations, for any device. All other backends are tested against this one."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from sslx.data_loaders.buffers import empty, sent
from sslx.data_loaders.views.colour import HUE, desaturate, jitter
from sslx.data_loaders.views.draws import PARAMETERS, Law, draw
from sslx.data_loaders.views.filters import blur, noise, solarise
from sslx.data_loaders.views.resample import resample, rotate, weights

_PART = 1 << 21  # pixels that a CPU makes at a time: the intermediate results of more leave its caches


def make(
    law: Law, images: Tensor, index: Tensor, sizes: NDArray[np.int64], base: int, first: int, compiled: bool
) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) uint8 images -> the same as floats, and their views, (N, J, C, h, w), on the images' device."""
    (N, C, H, W), device = images.shape, images.device
    original, p = images.float() / 255, sample(law, index, sizes, base, first, H, W)
    if compiled or device.type != "cpu":
        there = {name: sent(values, device) for name, values in p.items()}
        return original, (_compiled() if compiled else apply)(law, original, there, choose(p, device))
    x = empty(N, law.views, C, *law.size)
    step = max(1, _PART * N // x.numel())
    for part in (slice(begin, begin + step) for begin in range(0, N, step)):
        some = {name: values[part] for name, values in p.items()}
        x[part] = apply(law, original[part], some, choose(some, device))
    return original, x


def sample(
    law: Law, index: Tensor, sizes: NDArray[np.int64], base: int, first: int, H: int, W: int
) -> dict[str, Tensor]:
    """Draw the fields of `draws.PARAMETERS`, each (N, J) or (N, J, 4), on the CPU. Arguments are those of `draw`."""
    table = np.empty((len(index), law.views), PARAMETERS)
    draw(law, base, index.cpu().numpy(), sizes, first, H, W, table)
    return {name: torch.from_numpy(table[name].copy()) for name in PARAMETERS.names or ()}


class Chosen(NamedTuple):
    """Positions of the views that an operation applies to, among all N·J views, on the device of the images."""

    turned: list[Tensor]  # for each round of the jitter, the views whose hue is shifted
    blurred: Tensor
    solarised: Tensor


def choose(p: dict[str, Tensor], device: torch.device) -> Chosen:
    """The views that only some operations apply to. Parameters on the CPU avoid waiting for another device."""

    def where(mask: Tensor) -> Tensor:
        return sent(mask.flatten().nonzero()[:, 0], device)

    shifted = p["factors"][..., HUE] != 0
    turned = [where((which == HUE) & shifted) for which in p["order"].unbind(dim=-1)]
    return Chosen(turned, where(p["sigma"] > 0), where(p["solarise"]))


def apply(law: Law, images: Tensor, p: dict[str, Tensor], chosen: Chosen) -> Tensor:
    """(N, C, H, W) floats in [0, 1] -> their views, (N, J, C, h, w). Operations that are switched off are skipped."""
    x = _place(law, images, p)
    if law.jitter and law.low != law.high:
        x = jitter(x, p["factors"], p["order"], chosen.turned)
    if law.grey and x.shape[2] == 3:
        x = desaturate(x, p["grey"])
    flat = x.view(-1, *x.shape[2:])  # unlike flatten, view never copies
    if len(chosen.blurred):
        sigma = p["sigma"].flatten()[chosen.blurred]
        flat[chosen.blurred] = blur(flat[chosen.blurred], sigma, law.radius)
    if len(chosen.solarised):
        flat[chosen.solarised] = solarise(flat[chosen.solarised])
    if law.noise:
        x = x + law.noise * noise(p["noise"], x.shape[2:])
    return x


@functools.cache
def _compiled() -> Callable[[Law, Tensor, dict[str, Tensor], Chosen], Tensor]:
    """`apply`, compiled for all laws and sizes: the number of blurred views differs from batch to batch."""
    return torch.compile(apply, dynamic=True)


def _place(law: Law, images: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Crop, flip and rotate."""
    crops = law.crop != (1.0, 1.0) or law.pad
    if not (crops or law.hflip or law.vflip or law.rotation or law.size != images.shape[-2:]):
        return images[:, None].repeat(1, law.views, 1, 1, 1)
    if law.pad:
        images = pad(images, (law.pad,) * 4, mode="reflect")
    vertical = (p["top"] + law.pad, p["height"], p["vflip"])
    horizontal = (p["left"] + law.pad, p["width"], p["hflip"])
    if law.rotation:
        return rotate(images, vertical, horizontal, p["angle"], law.size, law.edge)
    wy = weights(*vertical, images.shape[-2], law.size[0])
    wx = weights(*horizontal, images.shape[-1], law.size[1])
    return resample(images, wy, wx).clamp_(0, 1)  # sums of weights can exceed 1 by rounding
