"""The standard views on a GPU, fused by Triton: each pixel of a view is made from uint8 and written once.

Crop, flips, rotation, colour, grey, solarization and noise are one pass. Contrast needs the mean of a view, so a pass
before it makes those views without keeping them. A blur is two more passes over the views that have one. Every
operation is equal to that of `torch_backend`, which the tests compare it with, in Triton's interpreter as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from sslx.data_loaders.buffers import sent as to
from sslx.data_loaders.views import triton_kernel
from sslx.data_loaders.views.draws import PARAMETERS, Law, draw
from sslx.data_loaders.views.filters import gaussian, quantiles

_BLOCK = 1024  # pixels of a program
#: Products and sums are rounded one by one, as in the other backends; the interpreter always does so.
_EXACT: dict[str, Any] = {} if triton.knobs.runtime.interpret else {"enable_fp_fusion": False}


def make(
    law: Law, images: Tensor, index: Tensor, sizes: NDArray[np.int64], base: int, first: int,
    dtype: torch.dtype = torch.float32, memory_format: torch.memory_format = torch.contiguous_format,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(N, C, H, W) uint8 images -> the same as floats, and their views, (N, J, C, h, w), on the images' device.

    Nothing waits for the device: all parameters go there as one piece of pinned memory.

    Args:
        dtype: type of the views.
        memory_format: of the views as one batch, (N·J, C, h, w).
    """
    (N, C, H, W), (h, w), device, J = images.shape, law.size, images.device, law.views
    V, images = N * J, images.contiguous()
    (slots, numbers, extra, weights), sent, blurred = _parameters(law, index, sizes, base, first, H, W, device)
    longs, floats, rows = (
        sent[: V * PARAMETERS.itemsize].view(kind) for kind in (torch.int64, torch.float32, torch.uint8)
    )
    out = torch.empty((V, C, h, w), dtype=dtype, device=device, memory_format=memory_format)
    strides = (out.stride(0), out.stride(1), out.stride(3))  # of a pixel: rows follow each other in both formats
    channels, parts = (3 if C == 3 else 1), triton.cdiv(h * w, _BLOCK)
    jitters = bool(law.jitter and law.low != law.high)
    scratch = torch.empty((2, blurred, C, h, w), device=device)
    sums = torch.empty((V, parts), device=device)
    table = _table(device) if law.noise else floats
    shape, exact = (H, W, h, w), {"BLOCK": _BLOCK, **_EXACT}
    how: dict[str, Any] = {"CHANNELS": channels, "EDGE": law.edge, "ROTATES": bool(law.rotation)}
    if jitters and (law.low[1], law.high[1]) != (1.0, 1.0):
        triton_kernel.sum_luminance[(V, parts)](
            images, longs, floats, rows, extra, sums, J, C, shape, parts, **how, **exact
        )
    triton_kernel.make[(V, parts, C // channels)](
        images, longs, floats, rows, extra, sums, slots, scratch, table, out, J, C, shape, parts, strides, law.noise,
        **how, JITTERS=jitters, NOISE=bool(law.noise), PARTS=triton.next_power_of_2(parts), **exact,
    )  # fmt: skip
    if blurred:
        grid, radius = (blurred, parts, C), law.radius
        triton_kernel.blur_rows[grid](scratch[0], scratch[1], weights, shape, C, RADIUS=radius, **exact)
        triton_kernel.blur_columns[grid](
            scratch[1], weights, longs, rows, numbers, table, out, shape, strides, C, law.noise,
            RADIUS=radius, NOISE=bool(law.noise), **exact,
        )  # fmt: skip
    return images.float() / 255, out.unflatten(0, (N, J))


def _parameters(
    law: Law, index: Tensor, sizes: NDArray[np.int64], base: int, first: int, H: int, W: int, device: torch.device
) -> tuple[list[Tensor], Tensor, int]:
    """Draw all parameters and send them to the device.

    Returns on the device: for each view its number among the blurred ones or -1, (V,) int32; the views that are
    blurred, int32; sine and cosine of each view's angle, (V, 2); the weights of each blur; then the memory of the table
    of `draws.PARAMETERS`; and how many views are blurred.
    """
    V = len(index) * law.views
    draws = np.empty((len(index), law.views), PARAMETERS)
    draw(law, base, index.cpu().numpy(), sizes, first, H, W, draws)
    flat = draws.reshape(V)
    numbers = np.flatnonzero(flat["sigma"] > 0).astype(np.int32)
    slots = np.full(V, -1, np.int32)
    slots[numbers] = np.arange(len(numbers), dtype=np.int32)
    radians = torch.deg2rad(torch.from_numpy(flat["angle"].copy()))
    turns = torch.stack([radians.sin(), radians.cos()], dim=1)
    weights = gaussian(torch.from_numpy(flat["sigma"][numbers].copy()), law.radius)
    arrays = (flat, slots, numbers, turns.numpy(), weights.numpy())
    pieces = [torch.from_numpy(array.reshape(-1).view(np.uint8)) for array in arrays]
    sent = to(torch.cat(pieces), device)
    kinds = (torch.int32, torch.int32, torch.float32, torch.float32)
    parts = sent.split([len(piece) for piece in pieces])[1:]
    found = [part.view(kind) if len(part) else part for part, kind in zip(parts, kinds, strict=True)]
    return found, sent, len(numbers)


_tables: dict[torch.device, Tensor] = {}


def _table(device: torch.device) -> Tensor:
    if device not in _tables:
        _tables[device] = quantiles().to(device)
    return _tables[device]
