"""Image files of any format, mode and size, read as uint8 images."""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from sslx.api import DataError, Lazy, Source, Split
from sslx.data_loaders.datasets.downloads import cache_folder
from sslx.data_loaders.workers import workers

_NAMED = 10  # bad files that a message names

#: Help texts of options that all datasets of files have.
BAD_IMAGES = "What to do with files that cannot be read: fail, or skip them and write a list of them."
MEMORY = "Largest size in GB of images in memory, as uint8; larger datasets are read from their files when needed."


@attrs.frozen(eq=False)
class Files(Source):
    """Image files, each of which is read as (C, H, W) uint8.

    Args:
        image_shape: (C, H, W); one channel is grey. The whole image is resized, with antialiasing.
        square: side of the central square that is cut out first.
    """

    paths: Sequence[Path]
    image_shape: tuple[int, int, int]
    square: int | None = None

    def read(self, index: Tensor) -> Tensor:
        images = torch.empty(len(index), *self.image_shape, dtype=torch.uint8)
        outcomes = self.decode(index.tolist(), images.numpy())
        if bad := [reason for reason in outcomes if isinstance(reason, str)]:
            raise DataError(f"files have changed since they were checked; {bad[0]}")
        return images

    @property
    def identity(self) -> str:
        files = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            facts = path.stat() if path.exists() else None  # a missing file is reported when it is decoded
            files.update(f"{path}\0{facts and (facts.st_size, facts.st_mtime_ns)}\0".encode())
        return f"{files.hexdigest()} {self.image_shape} {self.square}"

    def decode(self, positions: Sequence[int], images: NDArray[np.uint8] | None) -> list[tuple[int, int] | str]:
        """Read files into (k, C, H, W) `images`, unless these are None. Threads help, as Pillow releases Python's lock.

        Returns for each file its height and width before it was resized, or the reason why it cannot be read.
        """

        def one(row: int) -> tuple[int, int] | str:
            try:
                pixels, size = self._pixels(self.paths[positions[row]])
            except Exception as error:  # Pillow raises a different kind for every format
                path = str(self.paths[positions[row]])
                said = str(getattr(error, "strerror", None) or error).replace(repr(path), "")
                reason = " ".join(said.split()) or type(error).__name__
                return f"{path}: {reason}"
            if images is not None:
                images[row] = pixels
            return size

        return list(workers("decoders", os.cpu_count() or 1).map(one, range(len(positions))))

    def _pixels(self, path: Path) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        C, H, W = self.image_shape
        with Image.open(path) as file:
            image = _upright(file, grey=C == 1)  # reads to the end of the file, or raises an error
        file.close()  # frees the pixels now instead of at the next garbage collection
        if self.square is not None:
            left, top = (image.width - self.square) // 2, (image.height - self.square) // 2
            image = image.crop((left, top, left + self.square, top + self.square))
        size = (image.height, image.width)
        if size != (H, W):
            image = image.resize((W, H), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return (pixels[None] if C == 1 else pixels.transpose(2, 0, 1)), size


def _upright(image: Image.Image, grey: bool) -> Image.Image:
    """The image as a viewer shows it: oriented by EXIF, on white where it is transparent, 16 bits scaled to 8."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise ValueError("floating-point pixels have an unknown range; convert them to 8 bits")
    if image.mode.startswith("I"):  # Pillow would clip values above 255
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 0xFFFF:
            raise ValueError("integer pixels of more than 16 bits are not supported")
        image = Image.fromarray((wide / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def find(
    paths: Sequence[Path],
    where: Path,
    size: int | None,
    grey: bool,
    bad: Literal["skip", "fail"],
    report: Path,
    memory: float,
    square: int | None = None,
) -> tuple[Split, Tensor]:
    """Check that files are images, and read them into memory if they fit.

    Returns a split, without labels, of the n files that can be read, and their positions in `paths`, (n,) int64.

    Args:
        where: the folder of the files, for messages.
        size: height and width to which the whole image is resized; None keeps the size, which all files must share.
        grey: one channel instead of three.
        bad: what to do about a file that cannot be read as an image or is cut short.
        report: the file to which the list of skipped files is written.
        memory: largest size in GB of images in memory. Images of larger sets are read when they are needed, and the
            result of their check is cached.
        square: side of the central square that is cut out first.

    Raises DataError for bad files, of which it names the first ten, or for sizes that differ.
    """
    shape = (1 if grey else 3, *((size, size) if size is not None else _first_size(paths)))
    source = Files(paths, shape, square)
    images, everything = None, range(len(paths))
    if len(paths) * torch.Size(shape).numel() <= memory * 1e9:
        images = torch.empty(len(paths), *shape, dtype=torch.uint8)
        outcomes = source.decode(everything, images.numpy())
    else:
        outcomes = _checked(source)
    broken = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if broken:
        _complain(broken, where, len(paths), bad, report)
    kept = torch.tensor([i for i in everything if not isinstance(outcomes[i], str)], dtype=torch.int64)
    if not len(kept):
        raise DataError(f"{where}: none of the {len(paths)} files can be read as an image")
    sizes = torch.tensor([outcome for outcome in outcomes if not isinstance(outcome, str)])
    if size is None and len(different := sizes.unique(dim=0)) > 1:
        some = ", ".join(f"{height}x{width}" for height, width in different[:3].tolist())
        raise DataError(f"{where}: images of {len(different)} sizes ({some}, ...); set dataset.size to resize them")
    mixed = square is None and bool((sizes != torch.tensor(shape[1:])).any())
    chosen = Lazy(source, kept) if images is None else images if not broken else images[kept]
    return Split(chosen, sizes=sizes if mixed else None, skipped=broken), kept


def _first_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Height and width of the first file that can be read as an image; (1, 1) if there is none."""
    for path in paths:
        try:
            with Image.open(path) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return image.height, image.width
        except Exception:  # the file is reported later, with the reason
            continue
    return 1, 1


def _checked(source: Files) -> list[tuple[int, int] | str]:
    """The result of `source.decode` for all files, from the cache if they have not changed since an earlier check."""
    digest = hashlib.blake2b(source.identity.encode(), digest_size=16).hexdigest()
    record = cache_folder() / "checked" / f"{digest}.json"
    if record.exists():
        return json.loads(record.read_text(encoding="utf-8"))
    outcomes = source.decode(range(len(source.paths)), None)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        draft = record.with_name(f".{record.name}.{os.getpid()}")
        draft.write_text(json.dumps(outcomes), encoding="utf-8")
        os.replace(draft, record)
    except OSError as error:
        raise DataError(f"{record} cannot be written ({error.strerror}); set XDG_CACHE_HOME to a folder") from error
    return outcomes


def _complain(broken: Sequence[str], where: Path, total: int, bad: str, report: Path) -> None:
    """Raise DataError, or write the list of skipped files and print where it is."""
    named = [line.removeprefix(f"{where}{os.sep}").partition(": ") for line in broken[:_NAMED]]
    some = [f"{name} ({reason})" for name, _, reason in named] + ["..."] * (len(broken) > _NAMED)
    summary = f"{where}: {len(broken)} of {total} files cannot be read as images: {', '.join(some)}"
    if bad == "fail":
        raise DataError(f"{summary}; use --bad-images skip (dataset.bad_images=skip) to leave them out")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("".join(f"{line}\n" for line in broken), encoding="utf-8")
    if os.environ.get("RANK", "0") == "0":
        print(f"{summary}; these are skipped, the full list is in {report}", file=sys.stderr)
