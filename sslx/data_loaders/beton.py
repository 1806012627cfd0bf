"""`.beton` files: a dataset in FFCV's format, written once, completely or not at all, and read by any loader."""

import hashlib
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from sslx.api import ConfigError, DataError, Lazy, Source, Split, printable
from sslx.data_loaders.datasets.downloads import one_line, regular
from sslx.data_loaders.workers import workers

_PAGE = 1 << 23  # bytes that FFCV writes at a time, unless an image needs more
_READ = 1 << 22  # bytes of images that are read at a time to be written
_HASH = 16  # bytes of the hash at the end of a file, which FFCV ignores
_ROW = 24  # bytes of a row of the table before it
_MOST_HASHED = 1_000_000_000  # size of a file whose images are part of the hash
_LARGEST = 1 << 16  # height and width of an image

#: What a file stores with each image: the number of its half, its label (-1: none), its height and width before it was
#: stored, its number of channels, and how many images of its half belong together.
_COLUMNS = ("half", "label", "height", "width", "channels", "arity")


def require() -> None:
    """Import FFCV, without the change that this makes to the numbers of threads of torch and numba.

    Raises ConfigError, with the two commands that install FFCV, if it cannot be imported.
    """
    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        import ffcv  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"loader: FFCV cannot be imported ({error}); it is compiled when it is installed: "
            "`apt-get install libturbojpeg0-dev libopencv-dev pkg-config`, then `pip install 'sslx[ffcv]'`"
        ) from error
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def write(halves: Sequence[Split], path: Path, storage: Literal["raw", "jpeg"], quality: int) -> None:
    """Write the images, labels and sizes of splits to a `.beton` file, which appears when it is complete.

    FFCV's own loop encodes in other processes and waits forever if one of them dies, for example when the disk is full.
    So this one uses FFCV's parts in this process. Images that are not in memory are read a few at a time.

    Args:
        halves: the training half and perhaps the test half, whose images have the same shape.
        quality: of JPEG, 1 to 100.

    Raises DataError if the file cannot be written.
    """
    require()
    for half in halves:
        if half.images.dtype != torch.uint8:
            raise DataError(f"a .beton file stores uint8 images, but these are {half.images.dtype}")
    draft = path.with_name(f".{path.name}.draft-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(halves, draft, storage, quality, path.name)
        with open(draft, "rb+") as file:
            seal = _hash(draft, os.path.getsize(draft))
            file.seek(0, os.SEEK_END)
            file.write(seal)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise DataError(f"{printable(str(path))} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _write(halves: Sequence[Split], path: Path, storage: str, quality: int, title: str) -> None:
    from ffcv.fields import IntField, NDArrayField, RGBImageField
    from ffcv.memory_allocator import MemoryAllocator
    from ffcv.writer import DatasetWriter, handle_sample

    shape = halves[0].images.shape[1:]
    image = RGBImageField(write_mode="jpg", jpeg_quality=quality)
    if storage == "raw":
        image = NDArrayField(np.dtype(np.uint8), tuple(shape))
    fields: dict[str, Any] = {"image": image, **{name: IntField() for name in _COLUMNS}}
    page = max(_PAGE, 1 << (6 * shape[1:].numel()).bit_length())  # noise takes more bytes as JPEG than raw
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


def _hash(path: Path, size: int) -> bytes:
    """A hash of the first `size` bytes of a file, in large files without the images themselves."""
    from ffcv.reader import Reader

    reader: Any = Reader(str(path))
    content: Any = np.memmap(path, np.uint8, mode="r")[:size]
    digest = hashlib.blake2b(digest_size=_HASH)
    if size <= _MOST_HASHED:
        digest.update(content)
    else:
        digest.update(content[: int(reader.alloc_table["ptr"].min())])
        digest.update(content[int(reader.header["alloc_table_ptr"]) :])
    return digest.digest()


class Beton(Source):
    """A `.beton` file that `write` has written. Raises DataError for a file of another kind or one that is damaged.

    The file is mapped into memory, so the system can take its pages back when memory is short.
    """

    def __init__(self, path: Path) -> None:
        require()
        from ffcv.fields import NDArrayField
        from ffcv.reader import Reader

        self.path = path
        try:
            regular(path)
            reader: Any = Reader(str(path))
            if reader.field_names != ["image", *_COLUMNS]:
                raise ValueError("it has other columns")
            image, *columns = (reader.metadata[f"f{i}"] for i in range(1 + len(_COLUMNS)))
            self.columns = {name: torch.from_numpy(v.copy()) for name, v in zip(_COLUMNS, columns, strict=True)}
            self._raw = isinstance(reader.handlers["image"], NDArrayField)
            self._start, self._end = _regions(reader, image if self._raw else image["data_ptr"], path.stat().st_size)
            if self._raw:
                self.image_shape = _shape(*map(int, reader.handlers["image"].shape))
                problem = reader.handlers["image"].dtype != np.uint8 or self._unlike(
                    size=self._end - self._start != torch.Size(self.image_shape).numel()
                )
            else:
                self.image_shape = _shape(int(columns[4][0]), int(image["height"][0]), int(image["width"][0]))
                _, H, W = self.image_shape
                problem = self._unlike(size=(image["height"] != H) | (image["width"] != W))
            if problem:
                raise ValueError("it is damaged")
            size = path.stat().st_size - _HASH
            with open(path, "rb") as file:
                file.seek(size)
                if _sealed(reader, size) and file.read() != _hash(path, size):
                    raise ValueError("it is damaged: it is not what was written")
        except Exception as error:  # FFCV's reader raises various errors for files of another kind
            what = "is not a .beton file written by `sslx data convert`"
            raise DataError(f"{printable(str(path))} {what}: {one_line(error)}") from error
        self._content = np.asarray(np.memmap(path, np.uint8, mode="r"))
        self._fill: Any = _copy if self._raw else _decoder()

    def _unlike(self, size: NDArray[np.bool_]) -> bool:
        """Whether an image is not as all of them must be."""
        half, label, height, width, channels, arity = (self.columns[name] for name in _COLUMNS)
        sizes = torch.stack([height, width])
        wrong = [half != half.clamp(0, 1), label < -1, (sizes < 1).any(0), (sizes > 1 << 31).any(0), arity < 1]
        wrong += [channels != self.image_shape[0], torch.from_numpy(np.asarray(size))]
        wrong += [(half == half[0]) & (arity != arity[0]), (half == half[-1]) & (arity != arity[-1])]
        return bool(torch.stack(wrong).any())

    @property
    def identity(self) -> str:
        facts = self.path.stat()
        return f"{self.path} {facts.st_size} {facts.st_mtime_ns}"

    def read(self, index: Tensor) -> Tensor:
        images = np.empty((len(index), *self.image_shape), np.uint8)
        if self._raw:
            self.fill(index.numpy(), images)
            return torch.from_numpy(images)

        def one(row: int, position: int) -> None:
            file = io.BytesIO(self._content[self._start[position] : self._end[position]].tobytes())
            images[row] = np.asarray(Image.open(file)).transpose(2, 0, 1)[: len(images[row])]

        try:
            list(workers("decoders", os.cpu_count() or 1).map(one, range(len(index)), index.tolist()))
        except Exception as error:  # Pillow raises a different kind for every damage
            raise DataError(f"{printable(str(self.path))}: an image is damaged: {one_line(error)}") from error
        return torch.from_numpy(images)

    def fill(self, index: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        """Read the images at (k,) positions into (k, C, H, W), in the calling thread alone.

        JPEG is decoded by FFCV's decoder, which is faster than Pillow's and differs from it by a few levels.
        """
        if self._fill(self._content, self._start[index], self._end[index], images):
            raise DataError(f"{printable(str(self.path))}: an image is damaged")

    def split(self, half: int) -> Split:
        """The training half (0) or the test half (1)."""
        index = (self.columns["half"] == half).nonzero().squeeze(1)
        label, height, width = (self.columns[name][index] for name in ("label", "height", "width"))
        sizes = torch.stack([height, width], dim=1)
        mixed = bool((sizes != torch.tensor(self.image_shape[1:])).any())
        labels = label if len(label) and bool((label >= 0).all()) else None
        arity = int(self.columns["arity"][index[:1]].sum()) or 1  # 1 also for an empty half
        return Split(Lazy(self, index), labels, sizes=sizes if mixed else None, arity=arity)


def _shape(C: int, H: int, W: int) -> tuple[int, int, int]:
    if not 0 < C <= _LARGEST or not 0 < H <= _LARGEST or not 0 < W <= _LARGEST:
        raise ValueError(f"it has images of {C} channels and {H}x{W} pixels")
    return C, H, W


def _sealed(reader: Any, size: int) -> bool:
    """Whether there is a hash after the first `size` bytes; version 0.1.0 wrote none."""
    return bool((size - int(reader.header["alloc_table_ptr"])) % _ROW == 0)


def _regions(reader: Any, start: NDArray[Any], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the bytes of each image start and end, from the table. Raises ValueError if it does not fit the images."""
    table, last, n = reader.alloc_table, int(reader.header["alloc_table_ptr"]), len(start)
    if not n or n != reader.num_samples or (size - last) // _ROW != n or (size - last) % _ROW not in (0, _HASH):
        raise ValueError("it is cut short")
    order = table["sample_id"].argsort(kind="stable")
    begin, length = table["ptr"][order].astype(np.int64), table["size"][order].astype(np.int64)
    same = (table["sample_id"][order] == np.arange(n)).all() and (begin == start.astype(np.int64)).all()
    if not same or begin.min() < 0 or length.min() < 1 or (begin > last - length).any():
        raise ValueError("it is damaged: its table does not fit its images")
    return begin, begin + length


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _copy(content: Any, start: Any, end: Any, images: Any) -> int:
    """Copy stored pixels into (k, C, H, W) images. Returns the number of those that are damaged."""
    rows = images.reshape(len(images), -1)
    for i in range(len(rows)):
        pixels = content[start[i] : start[i] + rows.shape[1]]  # never more than a row, even of a damaged file
        for j in range(len(pixels)):  # vectorized, unlike the assignment of a slice
            rows[i, j] = pixels[j]
    return 0


def _decoder() -> Any:
    """FFCV's decoder of JPEG in a loop that releases the interpreter's lock once instead of for each image."""
    from ffcv.libffcv import ctypes_imdecode

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def decode(content: Any, start: Any, end: Any, images: Any) -> int:
        (C, H, W), damaged = images.shape[1:], 0
        pixels = np.empty((H, W, 3), np.uint8)
        for i in range(len(images)):
            jpeg = content[start[i] : end[i]]
            damaged -= ctypes_imdecode(
                jpeg.ctypes.data, jpeg.size, H, W, pixels.ctypes.data, H, W, 0, 0, 1, 1, False, False
            )  # 0, or -1 for an error
            for c in range(C):
                images[i, c] = pixels[:, :, c]
        return damaged

    return decode
