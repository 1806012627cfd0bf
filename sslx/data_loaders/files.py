"""Image files of any format, mode and size as one uint8 tensor, and what happens to those that cannot be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sslx.api import DataError

_NAMED = 10  # bad files that a message names


@attrs.frozen(eq=False)
class Decoded:
    """The images that could be read, (n, C, H, W) uint8, which of the files they are, and their sizes on disk."""

    images: Tensor
    kept: Tensor  # (n,) int64, positions among the files
    heights: Tensor  # (n,) int64
    widths: Tensor


def decode(
    paths: Sequence[Path],
    where: Path,
    size: int | None,
    grey: bool,
    bad: Literal["skip", "fail"],
    report: Path,
    square: int | None = None,
) -> Decoded:
    """Read image files, with threads: Pillow decodes outside Python's lock.

    Args:
        where: the folder that they are in, for messages.
        size: height and width to which the whole image is resized, antialiased; None keeps what is there, which must
            then be the same for all.
        grey: one channel instead of three.
        bad: what to do about a file that is no image or cut short.
        report: where the list of skipped files is written.
        square: side of the central square that is cut out first.

    Raises DataError for bad files, naming the first ten, or for sizes that differ.
    """

    def read(path: Path) -> tuple[np.ndarray, int, int] | str:
        try:
            with Image.open(path) as image:
                width, height = image.size
                pixels = image.convert("L" if grey else "RGB")  # reads to the end of the file, or raises
        except Exception as error:  # Pillow has a kind for every format
            return " ".join(str(error).split()) or type(error).__name__
        if square is not None:
            left, top = (width - square) // 2, (height - square) // 2
            pixels = pixels.crop((left, top, left + square, top + square))
        if size is not None and pixels.size != (size, size):
            pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(pixels), height, width

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(read, paths))
    broken = {path: outcome for path, outcome in zip(paths, outcomes, strict=True) if isinstance(outcome, str)}
    if broken:
        _complain(broken, where, len(paths), bad, report)
    good = [(i, outcome) for i, outcome in enumerate(outcomes) if not isinstance(outcome, str)]
    if not good:
        raise DataError(f"{where}: none of {len(paths)} files is an image")
    shapes = {pixels.shape[:2] for _, (pixels, _, _) in good}
    if len(shapes) > 1:
        some = ", ".join(f"{height}x{width}" for height, width in sorted(shapes)[:3])
        raise DataError(f"{where}: images of {len(shapes)} sizes ({some}, ...); set dataset.size to make them one")
    stacked = torch.from_numpy(np.stack([pixels for _, (pixels, _, _) in good]))
    return Decoded(
        images=stacked[:, None] if grey else stacked.permute(0, 3, 1, 2).contiguous(),
        kept=torch.tensor([i for i, _ in good]),
        heights=torch.tensor([height for _, (_, height, _) in good]),
        widths=torch.tensor([width for _, (_, _, width) in good]),
    )


def _complain(broken: dict[Path, str], where: Path, total: int, bad: str, report: Path) -> None:
    """Fail, or write the list of skipped files and say where it is."""
    lines = [f"{path}: {reason}" for path, reason in broken.items()]
    names = [str(path.relative_to(where)) for path in list(broken)[:_NAMED]] + ["..."] * (len(broken) > _NAMED)
    summary = f"{where}: {len(broken)} of {total} files cannot be read as images: {', '.join(names)}"
    if bad == "fail":
        raise DataError(f"{summary}; dataset.bad_images=skip leaves them out")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if os.environ.get("RANK", "0") == "0":
        print(f"{summary}; skipped, the whole list is in {report}", file=sys.stderr)
