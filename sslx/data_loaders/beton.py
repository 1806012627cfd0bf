"""`.beton` files: a set as FFCV stores it, written once, whole or not at all, and read by any loader."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from sslx.api import ConfigError, DataError, Lazy, Source, Split
from sslx.data_loaders.decoders import decoders

Storage = Literal["raw", "jpeg"]

_PAGE = 1 << 23  # bytes that FFCV writes at a time, unless an image needs more
_READ = 1 << 22  # bytes of images that are read at a time


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


#: What a file keeps of an image beside its pixels: which half it is in, its label (-1: none), its height and width
#: before it was stored, of how many channels it was, and how many images of its half belong together.
_COLUMNS = ("half", "label", "height", "width", "channels", "arity")


def write(halves: Sequence[Split], path: Path, storage: Storage, quality: int) -> None:
    """Write the images, labels and sizes of splits to a `.beton` file, which appears when it is complete.

    FFCV's own loop leaves the encoding to processes and waits for ever if one dies, as on a full disk; so this one
    stays in this process, and uses FFCV's parts. Images that are not in memory are read a few at a time.

    Args:
        halves: the training and perhaps the test half, whose images have the same shape.
        quality: of JPEG, 1 to 100.

    Raises DataError if the file cannot be written.
    """
    require()
    for half in halves:
        if half.images.dtype != torch.uint8:
            raise DataError(f"FFCV stores images of uint8; these are {str(half.images.dtype).removeprefix('torch.')}")
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with threads_kept():
            _write(halves, draft, storage, quality, path.name)
        with open(draft, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _write(halves: Sequence[Split], path: Path, storage: Storage, quality: int, title: str) -> None:
    from ffcv.fields import IntField, NDArrayField, RGBImageField
    from ffcv.memory_allocator import MemoryAllocator
    from ffcv.writer import DatasetWriter, handle_sample

    shape = halves[0].images.shape[1:]
    image = RGBImageField(write_mode="jpg", jpeg_quality=quality)
    if storage == "raw":
        image = NDArrayField(np.dtype(np.uint8), tuple(shape))
    fields: dict[str, Any] = {"image": image, **{name: IntField() for name in _COLUMNS}}
    page = max(_PAGE, 1 << (6 * shape[1:].numel()).bit_length())  # noise as JPEG is larger than it is raw
    writer: Any = DatasetWriter(str(path), fields, page_size=page, num_workers=1)
    writer.num_samples = count = sum(map(len, halves))
    writer.prepare()
    try:
        metadata = np.zeros(count, dtype=writer.metadata_type)
        allocator, console = MemoryAllocator(str(path), writer.data_region_start, page), Console(stderr=True)
        samples = enumerate(itertools.chain.from_iterable(map(_rows, range(len(halves)), halves)))
        with allocator:
            for i, (pixels, row) in track(samples, title, count, console=console, disable=not console.is_terminal):
                if storage == "jpeg":
                    pixels = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)  # grey as grey RGB
                sample = (np.ascontiguousarray(pixels), *row)
                handle_sample(sample, i, metadata.dtype.names, metadata, allocator, fields)
        writer.metadata_sm.buf[: metadata.nbytes] = metadata.tobytes()
        writer.finalize(allocator.allocations)
    finally:
        writer.metadata_sm.close()
        writer.metadata_sm.unlink()


def _rows(number: int, half: Split) -> Iterator[tuple[NDArray[np.uint8], list[int]]]:
    """Each image of a half, (C, H, W), and its `_COLUMNS`."""
    n, (C, H, W) = len(half), half.images.shape[1:]
    labels = torch.full((n,), -1) if half.labels is None else half.labels
    sizes = torch.tensor([H, W]).expand(n, 2) if half.sizes is None else half.sizes
    for index in torch.arange(n).split(max(1, _READ // (C * H * W))):
        columns = torch.cat([labels[index, None], sizes[index]], dim=1).tolist()
        for pixels, row in zip(half.images[index].numpy(), columns, strict=True):
            yield pixels, [number, *row, C, half.arity]


class Beton(Source):
    """A `.beton` file that `write` has written. Raises DataError if it is none, or cut short."""

    def __init__(self, path: Path) -> None:
        from ffcv.fields import NDArrayField
        from ffcv.reader import Reader

        self.path = path
        try:
            with threads_kept():
                reader: Any = Reader(str(path))
            table, image, *columns = reader.alloc_table, *(reader.metadata[f"f{i}"] for i in range(1 + len(_COLUMNS)))
            self.columns = {name: torch.from_numpy(v.copy()) for name, v in zip(_COLUMNS, columns, strict=True)}
            self.raw = isinstance(reader.handlers["image"], NDArrayField)
            start = image if self.raw else image["data_ptr"]
            order = table["ptr"].argsort()
            end = start + table["size"][order][np.searchsorted(table["ptr"], start, sorter=order)]
            if not len(start) or end.max() > path.stat().st_size:
                raise ValueError("it is cut short")
        except Exception as error:  # whatever its reader raises where it expects something else
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path} is no .beton file that `sslx data convert` wrote: {reason}") from error
        self._start, self._end = start.astype(np.int64), end.astype(np.int64)
        height, width = reader.handlers["image"].shape[1:] if self.raw else (image["height"][0], image["width"][0])
        self.image_shape = (int(self.columns["channels"][0]), int(height), int(width))

    @property
    def identity(self) -> str:
        facts = self.path.stat()
        return f"{self.path} {facts.st_size} {facts.st_mtime_ns}"

    def read(self, index: Tensor) -> Tensor:
        content = np.memmap(self.path, np.uint8, mode="r")  # pages of it are the system's, which takes them back
        images = torch.empty(len(index), *self.image_shape, dtype=torch.uint8)
        rows = images.numpy()

        def one(row: int) -> None:
            position = int(index[row])
            pixels: NDArray[np.uint8] = content[self._start[position] : self._end[position]]
            if not self.raw:
                pixels = np.asarray(Image.open(io.BytesIO(pixels.tobytes()))).transpose(2, 0, 1)[: len(rows[row])]
            rows[row] = pixels.reshape(rows[row].shape)

        if self.raw:
            for row in range(len(index)):
                one(row)
        else:
            list(decoders().map(one, range(len(index))))
        return images

    def split(self, half: int) -> Split:
        """The training (0) or the test half (1)."""
        index = (self.columns["half"] == half).nonzero().squeeze(1)
        label, height, width = (self.columns[name][index] for name in ("label", "height", "width"))
        sizes = torch.stack([height, width], dim=1)
        mixed = bool((sizes != torch.tensor(self.image_shape[1:])).any())
        labels = label if len(label) and bool((label >= 0).all()) else None
        arity = int(self.columns["arity"][index[:1]].sum()) or 1  # of an empty half, too
        return Split(Lazy(self, index), labels, sizes=sizes if mixed else None, arity=arity)
