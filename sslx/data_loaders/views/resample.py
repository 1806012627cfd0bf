"""Crop, resize and flip as one separable, antialiased resampling, each view with its own box.

Equal to `F.interpolate(crop, size, mode="bilinear", antialias=True, align_corners=False)` followed by a flip. Both are
linear in each axis, so a view is Wy · image · Wxᵀ with two small matrices, and a batch is two matrix products.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def weights(start: Tensor, length: Tensor, flip: Tensor, size: int, out: int) -> Tensor:
    """The weights of the `size` old pixels of an axis in each of `out` new pixels, (...,) boxes -> (..., out, size).

    Args:
        start: first old pixel of the box, (...,) int64.
        length: number of old pixels in the box, (...,) int64.
        flip: whether the new pixels are in reverse order, (...,) bool.
    """
    start, length, flip = start[..., None], length[..., None], flip[..., None]
    new = torch.arange(out, device=start.device)
    new = torch.where(flip, out - 1 - new, new)  # (..., out)
    old = torch.arange(size, device=start.device)
    scale = length.float() / out
    support = scale.clamp(min=1)  # half the width of the triangle; it grows with the step to avoid aliasing
    centre = scale * (new + 0.5)  # in pixels from the start of the box
    distance = ((old - start).float() + 0.5)[..., None, :] - centre[..., None]  # (..., out, size)
    inside = (old >= start) & (old < start + length)  # (..., size): pixels outside the box are never used
    weight = (1 - distance.abs() / support[..., None]).clamp(min=0) * inside[..., None, :]
    return weight / weight.sum(dim=-1, keepdim=True)


def resample(images: Tensor, wy: Tensor, wx: Tensor) -> Tensor:
    """(N, C, H, W) images, (N, J, H', H) and (N, J, W', W) weights -> (N, J, C, H', W') views."""
    rows = torch.einsum("njyh,nchw->njycw", wy, images)
    return torch.einsum("njycw,njxw->njcyx", rows, wx).contiguous()


def rotate(
    images: Tensor,
    vertical: tuple[Tensor, Tensor, Tensor],
    horizontal: tuple[Tensor, Tensor, Tensor],
    angle: Tensor,
    size: tuple[int, int],
    edge: bool,
) -> Tensor:
    """Resample and rotate about the centre of the view, which is not separable: -> (N, J, C, h, w).

    Each new pixel has a place in the box, around which the same triangles average.

    Args:
        images: (N, C, H, W).
        vertical, horizontal: start, length and flip of the box on each axis, (N, J) as in `weights`.
        angle: degrees counterclockwise, (N, J).
        size: height and width of the views, (h, w).
        edge: whether the edge of the box is repeated around it. Otherwise the surroundings are black, and a pixel that
            is half outside is half black, as in torchvision's rotate.
    """
    (C, H, W), (h, w) = images.shape[1:], size
    radians = torch.deg2rad(angle)[..., None, None]  # (N, J, 1, 1)
    y = torch.arange(h, device=images.device)[:, None] - (h - 1) / 2
    x = torch.arange(w, device=images.device) - (w - 1) / 2
    y, x = radians.sin() * x + radians.cos() * y, radians.cos() * x - radians.sin() * y  # (N, J, h, w)
    y, x = y + (h - 1) / 2, x + (w - 1) / 2
    inside = torch.minimum(y + 1, h - y).clamp(0, 1) * torch.minimum(x + 1, w - x).clamp(0, 1)
    rows, columns = list(_taps(y, vertical, H, h)), list(_taps(x, horizontal, W, w))
    total = torch.zeros((), device=images.device)
    pixels = images.flatten(2)  # (N, C, H·W)
    for row, wy in rows:
        for column, wx in columns:
            place = (row * W + column).flatten(1)[:, None].expand(-1, C, -1)  # (N, C, J·h·w)
            found = pixels.gather(2, place).unflatten(2, y.shape[1:]).transpose(1, 2)  # (N, J, C, h, w)
            total = total + (wy * wx)[:, :, None] * found
    return (total if edge else total * inside[:, :, None]).clamp(0, 1).contiguous()


def _taps(place: Tensor, box: tuple[Tensor, Tensor, Tensor], size: int, out: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Old pixels of an axis and their weights, (N, J, h, w) each, in the average at a `place` among `out` new ones."""
    start, length, flip = (values[..., None, None] for values in box)
    scale = length.float() / out
    support = scale.clamp(min=1)
    place = torch.where(flip, out - 1 - place, place)
    centre = (scale * (place + 0.5)).clamp(min=0).minimum(length)
    first = (centre - support + 0.5).floor().clamp(min=0)
    old = [first + k for k in range(math.ceil(2 * max(1, size / out)))]
    weight = [(1 - (each + 0.5 - centre).abs() / support).clamp(min=0) * (each < length) for each in old]
    total = torch.stack(weight).sum(dim=0)
    for each, share in zip(old, weight, strict=True):
        yield start + each.minimum(length - 1).long(), share / total
