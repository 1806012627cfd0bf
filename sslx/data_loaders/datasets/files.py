"""Image files of any format, mode and size as uint8 images, and what happens to those that cannot be read."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from sslx.api import DataError, Lazy, Source
from sslx.data_loaders.datasets.downloads import cache_folder
from sslx.data_loaders.decoders import decoders

_NAMED = 10  # bad files that a message names
_GB = 1e9

#: The help of the option that all datasets of files have, 4 by default.
MEMORY = "GB that the images may take in memory as uint8; those of a larger set are read from their files when needed"


@attrs.frozen(eq=False)
class Files(Source):
    """Image files, each of which becomes (C, H, W) uint8.

    Args:
        where: the folder that they are in, for messages.
        image_shape: (C, H, W); one channel is grey. The whole image is resized, antialiased.
        square: side of the central square that is cut out first.
    """

    where: Path
    paths: Sequence[Path]
    image_shape: tuple[int, int, int]
    square: int | None = None

    def read(self, index: Tensor) -> Tensor:
        images = torch.empty(len(index), *self.image_shape, dtype=torch.uint8)
        outcomes = self.decode(index.tolist(), images.numpy())
        if bad := [reason for reason in outcomes if isinstance(reason, str)]:
            raise DataError(f"{self.where}: files have changed since they were checked; {bad[0]}")
        return images

    @property
    def identity(self) -> str:
        files = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            facts = path.stat() if path.exists() else None  # what is missing is named when it is decoded
            files.update(f"{path}\0{facts and (facts.st_size, facts.st_mtime_ns)}\0".encode())
        return f"{files.hexdigest()} {self.image_shape} {self.square}"

    def decode(self, positions: Sequence[int], images: NDArray[np.uint8] | None) -> list[tuple[int, int] | str]:
        """Read files into the rows of (k, C, H, W) `images`, if any, with threads: Pillow works outside Python's lock.

        Returns for each its height and width, before it was resized, or why it cannot be read.
        """

        def one(row: int) -> tuple[int, int] | str:
            try:
                pixels, size = self._pixels(self.paths[positions[row]])
            except Exception as error:  # Pillow has a kind for every format
                path = str(self.paths[positions[row]])
                said = str(getattr(error, "strerror", None) or error).replace(repr(path), "")
                reason = " ".join(said.split()) or type(error).__name__
                return f"{path}: {reason}"
            if images is not None:
                images[row] = pixels
            return size

        return list(decoders().map(one, range(len(positions))))

    def _pixels(self, path: Path) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        C, H, W = self.image_shape
        with Image.open(path) as file:
            image = _upright(file, grey=C == 1)  # reads to the end of the file, or raises
        file.close()  # or its pixels would wait for the garbage collector, which counts objects and not their size
        if self.square is not None:
            left, top = (image.width - self.square) // 2, (image.height - self.square) // 2
            image = image.crop((left, top, left + self.square, top + self.square))
        size = (image.height, image.width)
        if size != (H, W):
            image = image.resize((W, H), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return (pixels[None] if C == 1 else pixels.transpose(2, 0, 1)), size


def _upright(image: Image.Image, grey: bool) -> Image.Image:
    """As a viewer shows it: turned as EXIF says, on white where it is transparent, 16 bits scaled to 8."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise ValueError("its pixels are floats, of which nobody knows the range")
    if image.mode.startswith("I"):  # Pillow would cut off what is above 255
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 0xFFFF:
            raise ValueError("its pixels are integers of more than 16 bits")
        image = Image.fromarray((wide / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


@attrs.frozen(eq=False)
class Found:
    """The images that could be read, which of the files they are, and what is known of them."""

    images: Tensor | Lazy
    kept: Tensor  # (n,) int64, positions among the files
    sizes: Tensor | None  # (n, 2) heights and widths of the files, unless all have that of the images
    skipped: Sequence[str]  # the others, with the reasons


def find(
    paths: Sequence[Path],
    where: Path,
    size: int | None,
    grey: bool,
    bad: Literal["skip", "fail"],
    report: Path,
    memory: float,
    square: int | None = None,
) -> Found:
    """Check that files are images, and read them into memory if they fit.

    Args:
        where: the folder that they are in, for messages.
        size: height and width to which the whole image is resized; None keeps what is there, which must then be the
            same for all.
        grey: one channel instead of three.
        bad: what to do about a file that is no image or cut short.
        report: where the list of skipped files is written.
        memory: GB that the images may take in memory; more are read when they are asked for. Of those it is remembered
            that they were checked.
        square: side of the central square that is cut out first.

    Raises DataError for bad files, naming the first ten, or for sizes that differ.
    """
    shape = (1 if grey else 3, *((size, size) if size is not None else _first_size(paths, square)))
    source = Files(where, paths, shape, square)
    images, everything = None, range(len(paths))
    if len(paths) * torch.Size(shape).numel() <= memory * _GB:
        images = torch.empty(len(paths), *shape, dtype=torch.uint8)
        outcomes = source.decode(everything, images.numpy())
    else:
        outcomes = _checked(source)
    broken = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if broken:
        _complain(broken, where, len(paths), bad, report)
    kept = torch.tensor([i for i in everything if not isinstance(outcomes[i], str)], dtype=torch.int64)
    if not len(kept):
        raise DataError(f"{where}: none of {len(paths)} files is an image")
    sizes = torch.tensor([outcome for outcome in outcomes if not isinstance(outcome, str)])
    if size is None and len(different := sizes.unique(dim=0)) > 1:
        some = ", ".join(f"{height}x{width}" for height, width in different[:3].tolist())
        raise DataError(f"{where}: images of {len(different)} sizes ({some}, ...); set dataset.size to make them one")
    mixed = square is None and bool((sizes != torch.tensor(shape[1:])).any())
    chosen = Lazy(source, kept) if images is None else images if not broken else images[kept]
    return Found(chosen, kept, sizes if mixed else None, broken)


def _first_size(paths: Sequence[Path], square: int | None) -> tuple[int, int]:
    """Height and width of the first file that is an image; of none, anything."""
    if square is not None:
        return square, square
    for path in paths:
        try:
            with Image.open(path) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return image.height, image.width
        except Exception:  # it is named later, with its reason
            continue
    return 1, 1


def _checked(source: Files) -> list[tuple[int, int] | str]:
    """What `source.decode` says of all files, from the cache if they were checked before and have not changed."""
    digest = hashlib.blake2b(source.identity.encode(), digest_size=16).hexdigest()
    record = cache_folder() / "checked" / f"{digest}.json"
    if record.exists():
        known: list[Any] = json.loads(record.read_text(encoding="utf-8"))
        return [outcome if isinstance(outcome, str) else (outcome[0], outcome[1]) for outcome in known]
    outcomes = source.decode(range(len(source.paths)), None)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        draft = record.with_name(f".{record.name}.{os.getpid()}")
        draft.write_text(json.dumps(outcomes), encoding="utf-8")
        os.replace(draft, record)
    except OSError as error:
        raise DataError(f"{record} cannot be written ({error.strerror}); XDG_CACHE_HOME is another cache") from error
    return outcomes


def _complain(broken: Sequence[str], where: Path, total: int, bad: str, report: Path) -> None:
    """Fail, or write the list of skipped files and say where it is."""
    named = [line.removeprefix(f"{where}{os.sep}").partition(": ") for line in broken[:_NAMED]]
    some = [f"{name} ({reason})" for name, _, reason in named] + ["..."] * (len(broken) > _NAMED)
    summary = f"{where}: {len(broken)} of {total} files cannot be read as images: {', '.join(some)}"
    if bad == "fail":
        raise DataError(f"{summary}; --bad-images skip (dataset.bad_images=skip) leaves them out")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("".join(f"{line}\n" for line in broken), encoding="utf-8")
    if os.environ.get("RANK", "0") == "0":
        print(f"{summary}; skipped, the whole list is in {report}", file=sys.stderr)
