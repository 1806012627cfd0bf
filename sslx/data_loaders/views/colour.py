"""Brightness, contrast, saturation, hue and grey, with a strength and an order of its own for each view.

The arithmetic is that of torchvision's functions on floats, its clamps and its weights of red, green and blue included.
The first three adjustments are one: each blends the image with something, black, its mean grey or its grey version. So
a round computes all views alike, whichever of them is theirs in that round.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luminance(x: Tensor) -> Tensor:
    """(..., C, H, W) -> (..., 1, H, W); an image of one channel is its own luminance."""
    if x.shape[-3] == 1:
        return x
    red, green, blue = x.unbind(dim=-3)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3)


def jitter(x: Tensor, factors: Tensor, order: Tensor, turned: Sequence[Tensor]) -> Tensor:
    """Adjust brightness, contrast, saturation and hue of each view in its own order.

    Args:
        x: views, (N, J, C, H, W) in [0, 1]; those of one channel have neither saturation nor hue.
        factors: of brightness, contrast, saturation (1 changes nothing) and hue (0), (N, J, 4).
        order: which of the four comes first, second, third and fourth, (N, J, 4).
        turned: in each of the four rounds, which of the N·J views have their hue shifted then.
    """
    colours = x.shape[-3] == 3
    for which, places in zip(order.long().unbind(dim=-1), turned, strict=True):  # (N, J)
        factor = factors.gather(-1, which[..., None])[..., 0]
        blends = which != HUE if colours else which < SATURATION
        blended = torch.where(blends, factor, 1)[..., None, None, None]
        adjustment = which[..., None, None, None]
        grey = luminance(x)
        other = grey * (adjustment == SATURATION) + grey.mean(dim=(-3, -2, -1), keepdim=True) * (adjustment == CONTRAST)
        x = (blended * x + (1 - blended) * other).clamp(0, 1)
        if colours and len(places):
            flat = x.view(-1, *x.shape[2:])
            flat[places] = turn(flat[places], factor.flatten()[places])
    return x


def turn(x: Tensor, hue: Tensor) -> Tensor:
    """Shift the hue of (V, 3, H, W) by (V,) parts of a turn, as through HSV and back."""
    red, green, blue = x.unbind(dim=-3)
    value, chroma = x.amax(dim=-3), x.amax(dim=-3) - x.amin(dim=-3)
    unit = torch.where(chroma > 0, chroma, 1)
    sixths = torch.where(value == green, (blue - red) / unit + 2, (red - green) / unit + 4)
    sixths = torch.where(value == red, (green - blue) / unit, sixths) + 6 * hue[:, None, None]  # of a turn
    # A channel lacks nothing within a sixth of a turn of its own hue, and all the chroma a third of a turn further on.
    start = torch.tensor([5, 3, 1], device=x.device)[:, None, None]
    lacks = (start + sixths[:, None]).remainder(6)
    return value[:, None] - chroma[:, None] * torch.minimum(lacks, 4 - lacks).clamp(0, 1)


def desaturate(x: Tensor, grey: Tensor) -> Tensor:
    """Make those of the (N, J, C, H, W) views grey for which `grey`, (N, J) bool, is true."""
    return luminance(x).where(grey[..., None, None, None], x)
