"""Blur, solarization and noise, each view with its own parameters."""

import functools

import torch
from torch import Tensor
from torch.nn.functional import pad

from sslx.api import bits


def gaussian(sigma: Tensor, radius: int) -> Tensor:
    """Weights of the pixels at distances -radius to radius in blurs of (V,) standard deviations, (V, 2·radius + 1)."""
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    weight = (-0.5 * (distance / sigma[:, None]) ** 2).exp()
    return weight / weight.sum(dim=-1, keepdim=True)


def blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur (V, C, H, W) with (V,) standard deviations, equal to torchvision's gaussian_blur of 2·radius + 1 pixels."""
    weight = gaussian(sigma, radius)[:, None, None, None]  # (V, 1, 1, 1, taps)
    height, width = x.shape[-2:]
    x = pad(x, (radius, radius, radius, radius), mode="reflect")
    x = sum((x[..., k : k + width] * weight[..., k] for k in range(2 * radius + 1)), start=torch.zeros(()))
    x = sum((x[..., k : k + height, :] * weight[..., k] for k in range(2 * radius + 1)), start=torch.zeros(()))
    return x.clamp(0, 1)  # the weights can add up to more than 1 by rounding


def solarise(x: Tensor) -> Tensor:
    """Invert the pixels of at least 0.5, equal to torchvision's solarize with a threshold of 0.5."""
    return torch.where(x >= 0.5, 1 - x, x)


@functools.cache
def quantiles() -> Tensor:
    """2¹⁶ equally likely values of the normal distribution, (65536,) float32 on the CPU.

    The largest is 4.3. A table gives the same numbers on every device, unlike formulas with logarithms and cosines, and
    four numbers need only 64 random bits.
    """
    levels = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)
    return torch.special.ndtri(levels).float()


def noise(keys: Tensor, shape: torch.Size) -> Tensor:
    """Standard normal numbers, (...) keys -> (..., *shape). Each number is a function of its key and position."""
    numbers = shape.numel()
    words = bits(keys, -(-numbers // 4))[..., None] >> torch.arange(0, 64, 16, device=keys.device)
    levels = (words & 0xFFFF).flatten(-2)[..., :numbers]
    return quantiles().to(keys.device)[levels].unflatten(-1, shape)
