"""Brightness, contrast, saturation and grey, with a strength and an order of its own for each view.

The arithmetic is that of torchvision's functions on floats, its clamps and its weights of red, green and blue included.
The three adjustments are one: each blends the image with something, black, its mean grey or its grey version. So a
round computes all views alike, whichever of the three is theirs in that round.
"""

from __future__ import annotations

from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION = range(3)


def luminance(x: Tensor) -> Tensor:
    """(..., C, H, W) -> (..., 1, H, W); an image of one channel is its own luminance."""
    if x.shape[-3] == 1:
        return x
    red, green, blue = x.unbind(dim=-3)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3)


def jitter(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Blend each view with black, its mean and its grey version, in its own order. A factor of 1 changes nothing.

    Args:
        x: views, (N, J, C, H, W) in [0, 1].
        factors: of brightness, contrast and saturation, (N, J, 3).
        order: which of the three comes first, second and third, (N, J, 3) int64.
    """
    for adjustment in order.unbind(dim=-1):  # (N, J)
        factor = factors.gather(-1, adjustment[..., None])[..., None, None]  # (N, J, 1, 1, 1)
        adjustment = adjustment[..., None, None, None]
        grey = luminance(x)
        if x.shape[-3] == 1:
            factor = factor.masked_fill(adjustment == SATURATION, 1)  # there is none to adjust
        other = grey * (adjustment == SATURATION) + grey.mean(dim=(-3, -2, -1), keepdim=True) * (adjustment == CONTRAST)
        x = (factor * x + (1 - factor) * other).clamp(0, 1)
    return x


def desaturate(x: Tensor, grey: Tensor) -> Tensor:
    """Make those of the (N, J, C, H, W) views grey for which `grey`, (N, J) bool, is true."""
    return luminance(x).where(grey[..., None, None, None], x)
