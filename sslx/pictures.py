"""Pictures of what a generative method makes of test images, and of what it makes by itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sslx.core.interfaces import Split, pixels
from sslx.core.randomness import Use, permutation, seed_of, seed_torch

_ROWS = _COLUMNS = 8
_SIDE = 56  # small images are enlarged to about so many pixels


@torch.no_grad()
def pictures(method: Any, test: Split, device: torch.device, seed: int, folder: Path) -> None:
    """Write `reconstructions.png`, rows of test images over rows of their reconstructions, and `samples.png`.

    Each of them if the method has `reconstruct` or `sample`, and if the data are images and not points. One that fails
    costs a line, not the run.
    """
    if test.images.dtype.is_floating_point:
        return
    seed_torch(seed_of(Use.EVALUATION, seed))

    def reconstructions() -> Tensor:
        index = permutation(len(test), Use.EVALUATION, seed)[: _ROWS // 2 * _COLUMNS]
        images = pixels(test.images[index]).to(device)
        pairs = zip(images.split(_COLUMNS), method.reconstruct(images).split(_COLUMNS), strict=True)
        return torch.cat([row for pair in pairs for row in pair])

    wanted: dict[str, tuple[str, Callable[[], Tensor]]] = {
        "reconstruct": ("reconstructions.png", reconstructions),
        "sample": ("samples.png", lambda: method.sample(_ROWS * _COLUMNS)),
    }
    for function, (name, make) in wanted.items():
        if hasattr(method, function):
            try:
                draw(make(), folder / name)
            except Exception as error:
                print(f"{name}: not drawn, {type(error).__name__}: {error}", file=sys.stderr)


def draw(images: Tensor, path: Path) -> None:
    """Write (n, C, H, W) floats in [0, 1] as one picture, in rows of eight with a line between them."""
    n, C, H, W = images.shape
    images = images[:, : 3 if C >= 3 else 1].clamp(0, 1)
    images = torch.nn.functional.interpolate(images, scale_factor=max(1, _SIDE // max(H, W)))
    tiles = torch.nn.functional.pad(images, (1, 1, 1, 1), value=0.5)
    tiles = torch.cat([tiles, tiles.new_ones(-n % _COLUMNS, *tiles.shape[1:])])  # an incomplete row ends in white
    rows = tiles.unflatten(0, (-1, _COLUMNS)).permute(0, 3, 1, 4, 2)  # (rows, h, columns, w, channels)
    array = (rows.flatten(2, 3).flatten(0, 1) * 255).round().byte().squeeze(2).cpu().numpy()
    Image.fromarray(array).save(path)
