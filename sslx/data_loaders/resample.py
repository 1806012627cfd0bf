"""Crop, resize and flip as one separable, antialiased resampling, with a box of its own for each view.

Equal to `F.interpolate(crop, size, mode="bilinear", antialias=True, align_corners=False)` followed by a flip. Both are
linear in each axis, so a view is Wy · image · Wxᵀ with two small matrices, and a whole batch is two matrix products.
"""

from __future__ import annotations

import torch
from torch import Tensor


def weights(start: Tensor, length: Tensor, flip: Tensor, size: int, out: int) -> Tensor:
    """How each of `out` new pixels on an axis is averaged from the `size` old ones: (...,) boxes -> (..., out, size).

    Args:
        start: first old pixel of the box, (...,) int64.
        length: number of old pixels in the box, (...,) int64.
        flip: whether the new pixels come in reverse order, (...,) bool.
        size: number of old pixels on the axis.
        out: number of new pixels on the axis.
    """
    start, length, flip = start[..., None], length[..., None], flip[..., None]
    new = torch.arange(out, device=start.device)
    new = torch.where(flip, out - 1 - new, new)  # (..., out)
    old = torch.arange(size, device=start.device)
    scale = length.float() / out
    support = scale.clamp(min=1)  # half the width of the triangle: it grows with the step, or shrinking would alias
    center = scale * (new + 0.5)  # in pixels from the start of the box
    distance = ((old - start).float() + 0.5)[..., None, :] - center[..., None]  # (..., out, size)
    inside = (old >= start) & (old < start + length)  # (..., size): nothing outside the box is ever read
    weight = (1 - distance.abs() / support[..., None]).clamp(min=0) * inside[..., None, :]
    return weight / weight.sum(dim=-1, keepdim=True)


def resample(images: Tensor, wy: Tensor, wx: Tensor) -> Tensor:
    """(N, C, H, W) images, (N, J, H', H) and (N, J, W', W) weights -> (N, J, C, H', W') views."""
    rows = torch.einsum("njyh,nchw->njycw", wy, images)
    return torch.einsum("njycw,njxw->njcyx", rows, wx).contiguous()
