"""Brightness, contrast, saturation, hue and grey, each view with its own strengths and order.

The arithmetic is that of torchvision's functions on floats, including their clamps and their weights of red, green and
blue. The first three adjustments are one operation: each blends the image with black, its mean grey or its grey
version. So each round computes all views alike, whichever of the three adjustments a view has in that round.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luminance(x: Tensor) -> Tensor:
    """(..., C, H, W) -> (..., 1, H, W). An image of one channel is its own luminance."""
    if x.shape[-3] == 1:
        return x
    red, green, blue = x.unbind(dim=-3)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3)


def jitter(x: Tensor, factors: Tensor, order: Tensor, turned: Sequence[Tensor]) -> Tensor:
    """Adjust brightness, contrast, saturation and hue of each view in its own order.

    Args:
        x: views, (N, J, C, H, W) in [0, 1]; views of one channel have neither saturation nor hue.
        factors: brightness, contrast, saturation (1: no change) and hue (0: no change), (N, J, 4).
        order: which of the four is applied first, second, third and fourth, (N, J, 4).
        turned: for each of the four rounds, the positions of those among the N·J views whose hue is then shifted.
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
    """Shift the hue of (V, 3, H, W) by (V,) fractions of a turn, equal to a conversion to HSV and back."""
    red, green, blue = x.unbind(dim=-3)
    value, chroma = x.amax(dim=-3), x.amax(dim=-3) - x.amin(dim=-3)
    unit = torch.where(chroma > 0, chroma, 1)
    sixths = torch.where(value == green, (blue - red) / unit + 2, (red - green) / unit + 4)
    sixths = torch.where(value == red, (green - blue) / unit, sixths) + 6 * hue[:, None, None]  # of a turn
    # A channel lacks nothing up to a sixth of a turn from its own hue, and all the chroma from a third of a turn on.
    start = torch.tensor([5, 3, 1], device=x.device)[:, None, None]
    lacks = (start + sixths[:, None]).remainder(6)
    return value[:, None] - chroma[:, None] * torch.minimum(lacks, 4 - lacks).clamp(0, 1)


def desaturate(x: Tensor, grey: Tensor) -> Tensor:
    """Remove the colour of those (N, J, C, H, W) views for which `grey`, (N, J) bool, is true."""
    return luminance(x).where(grey[..., None, None, None], x)
