"""Views as batched tensor operations, for any device. What every other backend is tested against."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from sslx.data_loaders.colour import desaturate, jitter
from sslx.data_loaders.filters import blur, noise, solarise
from sslx.data_loaders.parameters import Parameters, sample
from sslx.data_loaders.resample import resample, rotate, weights

if TYPE_CHECKING:
    from sslx.data_loaders.policy import Standard


def make(
    policy: Standard, images: Tensor, index: Tensor, sizes: Tensor | None, seed: int, epoch: int, first: int = 0
) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) uint8 images -> the same as floats, and their views, (N, J, C, h, w), where the images are."""
    original = images.float() / 255
    parameters = sample(policy, index, (images.shape[-2], images.shape[-1]), seed, epoch, first, sizes)
    return original, (_compiled() if policy.backend == "compiled" else apply)(policy, original, parameters)


def apply(policy: Standard, images: Tensor, p: Parameters) -> Tensor:
    """(N, C, H, W) floats in [0, 1] -> their views, (N, J, C, h, w), skipping what the policy never does."""
    x = _place(policy, images, p)
    colours = x.shape[2] == 3
    if policy.jitter and any((policy.brightness, policy.contrast, policy.saturation, policy.hue)):
        x = jitter(x, p.factors, p.order)
    if policy.grey and colours:
        x = desaturate(x, p.grey.to(x.device))
    flat = x.view(-1, *x.shape[2:])  # not flatten, which may copy
    if len(chosen := _chosen(p.sigma > 0, x)):
        sigma = p.sigma.flatten()[p.sigma.flatten() > 0].to(x.device)
        flat[chosen] = blur(flat[chosen], sigma, policy.radius(*x.shape[-2:]))
    if len(chosen := _chosen(p.solarise, x)):
        flat[chosen] = solarise(flat[chosen])
    if policy.noise:
        x = x + policy.noise * noise(p.noise.to(x.device), x.shape[2:])
    return x


@functools.cache
def _compiled() -> Callable[[Standard, Tensor, Parameters], Tensor]:
    """`apply` for all policies and sizes: the number of views that are blurred differs from batch to batch."""
    return torch.compile(apply, dynamic=True)


def _chosen(mask: Tensor, x: Tensor) -> Tensor:
    """(N, J) bool on the CPU -> positions among the flattened views, on the device of x."""
    return mask.flatten().nonzero()[:, 0].to(x.device, non_blocking=True)


def _place(policy: Standard, images: Tensor, p: Parameters) -> Tensor:
    """Crop, flip and rotate."""
    device, (H, W) = images.device, images.shape[-2:]
    h, w = policy.shape(H, W)
    if not (policy.crops or policy.hflip or policy.vflip or policy.rotation or (h, w) != (H, W)):
        return images[:, None].repeat(1, policy.count, 1, 1, 1)
    if policy.pad:
        images = pad(images, (policy.pad,) * 4, mode="reflect")
    top, left = (p.top + policy.pad).to(device), (p.left + policy.pad).to(device)
    vertical = (top, p.height.to(device), p.vflip.to(device))
    horizontal = (left, p.width.to(device), p.hflip.to(device))
    if policy.rotation:
        return rotate(images, vertical, horizontal, p.angle.to(device), (h, w), edge=policy.fill == "edge")
    wy = weights(*vertical, images.shape[-2], h)
    wx = weights(*horizontal, images.shape[-1], w)
    return resample(images, wy, wx).clamp_(0, 1)  # sums of weights can exceed 1 by rounding
