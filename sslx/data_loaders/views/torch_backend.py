"""Views as batched tensor operations, for any device. What every other backend is tested against."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from sslx.data_loaders.buffers import empty
from sslx.data_loaders.views.colour import HUE, desaturate, jitter
from sslx.data_loaders.views.filters import blur, noise, solarise
from sslx.data_loaders.views.parameters import Parameters, sample
from sslx.data_loaders.views.resample import resample, rotate, weights

if TYPE_CHECKING:
    from sslx.data_loaders.views.standard import Standard

_PART = 1 << 21  # pixels that a CPU makes at a time: what is made of more on the way leaves the caches


def make(
    policy: Standard, images: Tensor, index: Tensor, sizes: Tensor | None, seed: int, epoch: int, first: int = 0
) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) uint8 images -> the same as floats, and their views, (N, J, C, h, w), where the images are."""
    (N, C, H, W), device = images.shape, images.device
    original, p = images.float() / 255, sample(policy, index, (H, W), seed, epoch, first, sizes)
    if policy.backend == "compiled":
        return original, _compiled()(policy, original, p.to(device), choose(p, device))
    if device.type != "cpu":
        return original, apply(policy, original, p.to(device), choose(p, device))
    x = empty(N, policy.count, C, *policy.shape(H, W))
    parts = min(N, math.ceil(x.numel() / _PART))
    for view, image, part in zip(x.tensor_split(parts), original.tensor_split(parts), p.split(parts), strict=True):
        view.copy_(apply(policy, image, part, choose(part, device)))
    return original, x


class Chosen(NamedTuple):
    """Positions among all views of those that get what only some get, on the device of the images."""

    turned: list[Tensor]  # in each round of the jitter, those whose hue is shifted
    blurred: Tensor
    solarised: Tensor


def choose(p: Parameters, device: torch.device) -> Chosen:
    """Parameters must be on the CPU, so that no other device is waited for."""

    def where(mask: Tensor) -> Tensor:
        return mask.flatten().nonzero()[:, 0].to(device, non_blocking=True)

    shifted = p.factors[..., HUE] != 0
    turned = [where((which == HUE) & shifted) for which in p.order.unbind(dim=-1)]
    return Chosen(turned, where(p.sigma > 0), where(p.solarise))


def apply(policy: Standard, images: Tensor, p: Parameters, chosen: Chosen) -> Tensor:
    """(N, C, H, W) floats in [0, 1] -> their views, (N, J, C, h, w), skipping what the policy never does."""
    x = _place(policy, images, p)
    colours = x.shape[2] == 3
    if policy.jitter and any((policy.brightness, policy.contrast, policy.saturation, policy.hue)):
        x = jitter(x, p.factors, p.order, chosen.turned)
    if policy.grey and colours:
        x = desaturate(x, p.grey)
    flat = x.view(-1, *x.shape[2:])  # not flatten, which may copy
    if len(chosen.blurred):
        sigma = p.sigma.flatten()[chosen.blurred]
        flat[chosen.blurred] = blur(flat[chosen.blurred], sigma, policy.radius(*x.shape[-2:]))
    if len(chosen.solarised):
        flat[chosen.solarised] = solarise(flat[chosen.solarised])
    if policy.noise:
        x = x + policy.noise * noise(p.noise, x.shape[2:])
    return x


@functools.cache
def _compiled() -> Callable[[Standard, Tensor, Parameters, Chosen], Tensor]:
    """`apply` for all policies and sizes: the number of views that are blurred differs from batch to batch."""
    return torch.compile(apply, dynamic=True)


def _place(policy: Standard, images: Tensor, p: Parameters) -> Tensor:
    """Crop, flip and rotate."""
    H, W = images.shape[-2:]
    h, w = policy.shape(H, W)
    if not (policy.crops or policy.hflip or policy.vflip or policy.rotation or (h, w) != (H, W)):
        return images[:, None].repeat(1, policy.count, 1, 1, 1)
    if policy.pad:
        images = pad(images, (policy.pad,) * 4, mode="reflect")
    vertical = (p.top + policy.pad, p.height, p.vflip)
    horizontal = (p.left + policy.pad, p.width, p.hflip)
    if policy.rotation:
        return rotate(images, vertical, horizontal, p.angle, (h, w), edge=policy.fill == "edge")
    wy = weights(*vertical, images.shape[-2], h)
    wx = weights(*horizontal, images.shape[-1], w)
    return resample(images, wy, wx).clamp_(0, 1)  # sums of weights can exceed 1 by rounding
