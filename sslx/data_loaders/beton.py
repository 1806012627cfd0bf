"""`.beton` files: images as FFCV stores them, written once, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from sslx.api import ConfigError, DataError

Storage = Literal["raw", "jpeg"]

_PAGE = 1 << 23  # bytes that FFCV writes at a time, unless an image needs more


@contextmanager
def threads_kept() -> Iterator[None]:
    """Give torch and numba their threads back: FFCV sets both when it is imported, when it opens and at each epoch."""
    import numba

    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def require() -> None:
    """Raises ConfigError, with the two commands that install FFCV, unless it is there."""
    try:
        with threads_kept():
            import ffcv  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"loader: FFCV cannot be imported ({error}); it is compiled when it is installed: "
            "`apt-get install libturbojpeg0-dev libopencv-dev pkg-config`, then `pip install 'sslx[ffcv]'`"
        ) from error


def write(images: Tensor, path: Path, storage: Storage, quality: int) -> None:
    """Write (n, C, H, W) uint8 images to a `.beton` file, which appears when it is complete.

    FFCV's own loop leaves the encoding to processes and waits for ever if one dies, as on a full disk; so this one
    stays in this process, and uses FFCV's parts.

    Args:
        quality: of JPEG, 1 to 100.

    Raises DataError if the file cannot be written.
    """
    require()
    if images.dtype != torch.uint8:
        raise DataError(f"FFCV stores images of uint8; these are {str(images.dtype).removeprefix('torch.')}")
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with threads_kept():
            _write(images, draft, storage, quality, path.name)
        with open(draft, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _write(images: Tensor, path: Path, storage: Storage, quality: int, title: str) -> None:
    from ffcv.fields import NDArrayField, RGBImageField
    from ffcv.memory_allocator import MemoryAllocator
    from ffcv.writer import DatasetWriter, handle_sample

    pixels, count = images.numpy(), len(images)
    if storage == "jpeg":
        field = RGBImageField(write_mode="jpg", jpeg_quality=quality)
        pixels = np.broadcast_to(pixels, (count, 3, *pixels.shape[2:])).transpose(0, 2, 3, 1)  # grey as grey RGB
    else:
        field = NDArrayField(np.dtype(np.uint8), tuple(pixels.shape[1:]))
    page = max(_PAGE, 1 << (6 * images[0, 0].numel()).bit_length())  # noise as JPEG is larger than it is raw
    writer: Any = DatasetWriter(str(path), {"image": field}, page_size=page, num_workers=1)
    writer.num_samples = count
    writer.prepare()
    try:
        metadata = np.zeros(count, dtype=writer.metadata_type)
        allocator, console = MemoryAllocator(str(path), writer.data_region_start, page), Console(stderr=True)
        with allocator:
            for i in track(range(count), title, console=console, transient=True, disable=not console.is_terminal):
                sample = np.ascontiguousarray(pixels[i])
                handle_sample((sample,), i, metadata.dtype.names, metadata, allocator, {"image": field})
        writer.metadata_sm.buf[: metadata.nbytes] = metadata.tobytes()
        writer.finalize(allocator.allocations)
    finally:
        writer.metadata_sm.close()
        writer.metadata_sm.unlink()


def check(path: Path, images: Tensor) -> Storage:
    """How the images of a `.beton` file are stored. Raises DataError if it is none, cut short, or not for `images`."""
    from ffcv.fields import NDArrayField, RGBImageField
    from ffcv.reader import Reader

    try:
        with threads_kept():
            reader: Any = Reader(str(path))
        field, size = reader.handlers["image"], path.stat().st_size
        whole = (reader.alloc_table["ptr"] + reader.alloc_table["size"] <= size).all()
        if len(reader.metadata) != reader.num_samples or len(reader.alloc_table) != reader.num_samples or not whole:
            raise ValueError("it is cut short")
    except Exception as error:  # whatever its reader raises where it expects something else
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is no .beton file that `sslx data convert` wrote: {reason}") from error
    expected = (len(images), *images.shape[1:])
    found: tuple[int, ...] = (int(reader.num_samples),)
    if isinstance(field, NDArrayField):
        found += tuple(int(side) for side in field.shape)
    elif isinstance(field, RGBImageField):
        sizes = {(int(row["height"]), int(row["width"])) for row in reader.metadata["f0"][:: max(1, found[0] // 64)]}
        found += (images.shape[1], *min(sizes))
    if found != expected:
        raise DataError(f"{path} has images of shape {found}, the training set {expected}; convert it again")
    return "raw" if isinstance(field, NDArrayField) else "jpeg"
