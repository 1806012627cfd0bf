"""Compares the views of Triton's kernels, run by its interpreter on the CPU, with those of the torch backend.

    TRITON_INTERPRET=1 python tests/data_loaders/interpreted.py      # prints the largest difference of each case

A process of its own, since Triton decides when it is imported whether it interprets.
"""

from __future__ import annotations

import os
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from torch import Tensor

from sslx.api import Use, key
from sslx.data_loaders.views import torch_backend, triton_backend
from sslx.data_loaders.views.standard import Standard

CROP: dict[str, Any] = {"crop": (0.2, 1.0), "hflip": 0.5}
COLOUR: dict[str, Any] = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
ALL: dict[str, Any] = {**CROP, **COLOUR, "vflip": 0.5, "grey": 0.2, "blur": 0.5, "solarise": 0.3, "noise": 0.1}
#: Shape of the images, and options of the views.
CASES: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "flips": ((2, 7, 9), {"hflip": 0.5, "vflip": 0.5, "count": 1}),
    "crop to a larger size": ((1, 9, 9), {**CROP, "size": 14}),
    "crop to a smaller size": ((1, 21, 17), {**CROP, "size": 8}),
    "pad": ((3, 10, 10), {"pad": 4, "hflip": 0.5, "count": 1}),
    "rotation": ((3, 12, 11), {**CROP, "rotation": 40.0, "vflip": 0.5, "count": 1}),
    "rotation with its edge": ((1, 24, 24), {"rotation": 180.0, "fill": "edge", "size": 12, "count": 1}),
    "contrast of grey images": ((1, 8, 8), {"contrast": 0.8, "brightness": 0.8}),
    "all colours": ((3, 17, 18), COLOUR),
    "hue, grey, solarise and noise": ((3, 7, 7), {"hue": 0.5, "grey": 0.5, "solarise": 0.5, "noise": 0.2}),
    "blur": ((2, 12, 9), {"blur": 0.7, "kernel": 5}),
    "everything": ((3, 9, 8), {**ALL, "rotation": 20.0}),
    "everything on grey images": ((1, 10, 10), {**ALL, "count": 1}),
}


def both(shape: tuple[int, int, int], options: dict[str, Any], **how: Any) -> tuple[Tensor, Tensor]:
    """The views of the same images, by the torch backend and by Triton's kernels."""
    images = torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(0)).byte()
    images[0, :, : shape[1] // 2] = images[0, :1, :1, :1]  # grey, where the hue is undefined
    policy = Standard(**options)
    H, W = shape[1:]
    arguments = (policy.law(H, W), images, torch.arange(2) + 5, np.full((2, 2), (H, W), np.int64))
    base = int(key(Use.VIEWS, 0, 0))
    first, expected = torch_backend.make(*arguments, base, 0, compiled=False)
    other, found = triton_backend.make(*arguments, base, 0, **how)
    assert first.equal(other)
    return expected, found


def main() -> None:
    triton_backend._BLOCK = 256  # so that some views are made in parts
    for name, (shape, options) in CASES.items():
        expected, found = both(shape, options)
        assert found.shape == expected.shape and found.is_contiguous()
        error = float((found - expected).abs().max())
        print(f"{name}: {error:.1e}", flush=True)
        assert error <= 2e-5, name
    last = torch.channels_last
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)):
        expected, found = both((3, 6, 5), {**CROP, "blur": 0.5, "count": 1}, dtype=dtype, memory_format=last)
        assert found.dtype == dtype and found.flatten(0, 1).is_contiguous(memory_format=last)
        assert float((found.float() - expected).abs().max()) <= tolerance
    print("equal")


if __name__ == "__main__":
    main()
