"""Image files of any format, mode and size, read as uint8 images."""

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from sslx.api import DataError, Lazy, Source, Split, printable, say
from sslx.data_loaders.datasets.downloads import cache_folder, regular
from sslx.data_loaders.workers import workers

ARRAY = ".npy"
MAX_PIXELS = 178_956_970  # Pillow's own limit
_NAMED = 10  # bad files that a message names
_MOST_PAGES = 10_000
_ONE_PICTURE = ("MPO", "PSD")  # formats whose further pages are previews or layers of the first
_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose integers have at most 16 bits, also where Pillow gives them 32

#: Help texts of options that all datasets of files have.
BAD_IMAGES = "What to do with files that cannot be read: fail, or skip them and write a list of them."
MEMORY = "Largest size in GB of images in memory, as uint8; larger datasets are read from their files when needed."


@attrs.frozen(eq=False)
class Files(Source):
    """Image files, each of which is read as (C, H, W) uint8.

    Args:
        image_shape: (C, H, W); one channel is grey. The whole image is resized, with antialiasing.
        square: side of the central square that is cut out first.
        levels: values of more than 8 bits that become 0 and 255; None for those of 16 bits.
        max_pixels: largest number of pixels of a file.
        pages: the page of each file; None for the first.
        layered: whether a file holds C channels that are not colours, as an array, as pages or as bands.
    """

    paths: Sequence[Path]
    image_shape: tuple[int, int, int]
    square: int | None = None
    levels: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS
    pages: Sequence[int] | None = None
    layered: bool = False
    tops: list[int] = attrs.field(factory=list, init=False)  # largest values of the 16-bit images that were read
    several: list[Path] = attrs.field(factory=list, init=False)  # files read that have more pages than the one

    def read(self, index: Tensor) -> Tensor:
        images = torch.empty(len(index), *self.image_shape, dtype=torch.uint8)
        outcomes = self.decode(index.tolist(), images.numpy())
        for position, reason in zip(index.tolist(), outcomes, strict=True):
            if isinstance(reason, str):
                raise DataError(f"files have changed since they were checked; {self._name(position)}: {reason}")
        return images

    @property
    def identity(self) -> str:
        files = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            facts = path.stat() if path.exists() else None  # a missing file is reported when it is decoded
            files.update(os.fsencode(f"{path}\0{facts and (facts.st_size, facts.st_mtime_ns)}\0"))
        others = (self.levels, self.max_pixels, self.pages)
        if others != (None, MAX_PIXELS, None):
            files.update(repr(others).encode())
        if self.layered:
            files.update(b"layered")
        return f"{files.hexdigest()} {self.image_shape} {self.square}"

    def decode(self, positions: Sequence[int], images: NDArray[np.uint8] | None) -> list[tuple[int, int] | str]:
        """Read files into (k, C, H, W) `images`, unless these are None. Threads help, as Pillow releases Python's lock.

        Returns for each file its height and width before it was resized, or the reason why it cannot be read.
        """

        def one(row: int) -> tuple[int, int] | str:
            try:
                pixels, size = self._pixels(positions[row])
            except Exception as error:  # Pillow raises a different kind for every format
                said = str(getattr(error, "strerror", None) or error).replace(repr(str(self.paths[positions[row]])), "")
                return printable(" ".join(said.split())) or type(error).__name__
            if images is not None:
                images[row] = pixels
            return size

        with _pillow():
            return list(workers("decoders", os.cpu_count() or 1).map(one, range(len(positions))))

    def _name(self, position: int) -> str:
        page = "" if self.pages is None else f", page {1 + self.pages[position]}"
        return printable(f"{self.paths[position]}{page}")

    def _pixels(self, position: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        (C, H, W), path = self.image_shape, self.paths[position]
        if self.layered:
            layers = [Image.fromarray(layer) for layer in self._layers(path)]
            size = (layers[0].height, layers[0].width)
            if size != (H, W):
                layers = [layer.resize((W, H), Image.Resampling.BILINEAR) for layer in layers]
            return np.stack([np.asarray(layer) for layer in layers]), size
        with _opened(path, self.max_pixels) as file:
            if self.pages is not None:
                file.seek(self.pages[position])
                _small(file, self.max_pixels)
            elif file.format not in _ONE_PICTURE and _animated(file):
                self.several.append(path)
            image = self._upright(file, grey=C == 1)  # reads to the end of the file, or raises an error
        file.close()  # frees the pixels now instead of at the next garbage collection
        if self.square is not None:
            left, top = (image.width - self.square) // 2, (image.height - self.square) // 2
            image = image.crop((left, top, left + self.square, top + self.square))
        size = (image.height, image.width)
        if size != (H, W):
            image = image.resize((W, H), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return (pixels[None] if C == 1 else pixels.transpose(2, 0, 1)), size

    def _layers(self, path: Path) -> Sequence[NDArray[np.uint8]]:
        """The channels of a file, each (H, W)."""
        C = self.image_shape[0]
        if path.suffix.lower() == ARRAY:
            array = opened_array(path, C, self.max_pixels)
            bits = 8 * array.dtype.itemsize if array.dtype.kind == "u" else 0
            return [*(array if bits == 8 and self.levels is None else self._eight_bits(array, sixteen=bits == 16))]
        with _opened(path, self.max_pixels) as file:
            pages, bands = int(getattr(file, "n_frames", 1)), file.getbands()
            if (pages, len(bands)) == (1, C):
                return [self._grey(file if C == 1 else file.getchannel(band)) for band in bands]
            if pages != C:
                raise ValueError(f"{pages} pages of {len(bands)} bands, and dataset.channels is {C}")
            layers = []
            for page in range(pages):
                file.seek(page)
                _small(file, self.max_pixels)
                layers.append(self._grey(file))
        if len({layer.shape for layer in layers}) > 1:
            raise ValueError("the pages, which are channels, differ in size")
        return layers

    def _grey(self, image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(self._upright(image, grey=True))

    def _upright(self, image: Image.Image, grey: bool) -> Image.Image:
        """The image as a viewer shows it: oriented by EXIF, on white where it is transparent, with 8 bits."""
        sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS)
        coarse = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "F" or image.mode.startswith("I"):  # Pillow would clip values above 255
            image = Image.fromarray(self._eight_bits(np.asarray(image), sixteen))
        elif self.levels and coarse:
            raise ValueError("colours of 16 bits are read as 8 bits, so dataset.range cannot be applied")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("L" if grey else "RGB")

    def _eight_bits(self, wide: NDArray[Any], sixteen: bool) -> NDArray[np.uint8]:
        if wide.dtype.kind not in "biuf":
            raise ValueError(f"expected numbers, got {wide.dtype}")
        if self.levels is None and not sixteen:
            what = "floating-point" if wide.dtype.kind == "f" else f"{8 * wide.dtype.itemsize}-bit integer"
            raise ValueError(f"{what} pixels have an unknown range; set dataset.range=LOW,HIGH")
        if not np.isfinite(wide).all():
            raise ValueError("there are pixels that are not finite")
        low, high = self.levels or (0, 0xFFFF)
        if self.levels is None:
            self.tops.append(int(wide.max()))
        return ((wide.astype(np.float64) - low) * (255 / (high - low))).round().clip(0, 255).astype(np.uint8)


def opened_array(path: Path, channels: int, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """The array of a .npy file as (C, H, W), whose numbers are read when they are used. Raises ValueError."""
    regular(path)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and array.shape[0] != channels and array.shape[2] == channels:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] != channels or not array.size:
        found = " x ".join(map(str, array.shape))
        raise ValueError(f"expected {channels} x H x W or H x W x {channels}, as dataset.channels says, got {found}")
    if array[0].size > max_pixels:
        raise ValueError(f"{array[0].size} pixels, and dataset.max_pixels is {max_pixels}")
    return array


_entered, _lock = list[Any](), threading.Lock()  # by how many threads, each with what was before


@contextmanager
def _pillow() -> Iterator[None]:
    """Pillow without warnings, and without its own limit of pixels, in place of which there is `max_pixels`."""
    with _lock:
        if not _entered:
            _entered.append((Image.MAX_IMAGE_PIXELS, warnings.catch_warnings()))
            Image.MAX_IMAGE_PIXELS = None
            _entered[0][1].__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        else:
            _entered.append(None)
    try:
        yield
    finally:
        with _lock:
            before = _entered[0]
            _entered.pop()
            if not _entered:
                Image.MAX_IMAGE_PIXELS = before[0]
                before[1].__exit__(None, None, None)


def _opened(path: Path, max_pixels: int) -> Image.Image:
    """An image file whose pixels are not read yet. Raises ValueError if it has too many, or is not a regular file."""
    regular(path)
    if path.suffix.lower() == ARRAY:
        raise ValueError("an array; set dataset.channels to its number of channels")
    image = Image.open(path)
    _small(image, max_pixels)
    return image


def _small(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"{image.width}x{image.height} are {image.width * image.height} pixels, and dataset.max_pixels is "
            f"{max_pixels}"
        )


def _animated(image: Image.Image) -> bool:
    """Whether there is a second page."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # it is damaged
        return False


def _pages(path: Path, max_pixels: int) -> int:
    """Number of pages of a file; 1 if it cannot be read, which is reported later."""
    try:
        with _opened(path, max_pixels) as image:
            n = 1 if image.format in _ONE_PICTURE else int(getattr(image, "n_frames", 1))
    except Exception:
        return 1
    if n > _MOST_PAGES:
        raise DataError(f"{printable(str(path))}: expected at most {_MOST_PAGES} pages, got {n}")
    return n


def find(
    paths: Sequence[Path],
    where: Path,
    size: int | None,
    grey: bool,
    bad: Literal["skip", "fail"],
    report: str,
    memory: float,
    square: int | None = None,
    levels: tuple[float, float] | None = None,
    pages: Literal["first", "all"] = "first",
    max_pixels: int = MAX_PIXELS,
    channels: int | None = None,
) -> tuple[Split, Tensor]:
    """Check that files are images, and read them into memory if they fit.

    Returns a split, without labels, of the n images that can be read, and the positions of their files in `paths`,
    (n,) int64.

    Args:
        where: the folder of the files, for messages.
        size: height and width to which the whole image is resized; None keeps the size, which all files must share.
        grey: one channel instead of three.
        bad: what to do about a file that cannot be read as an image or is cut short.
        report: name of the file in the cache to which the list of skipped files is written.
        memory: largest size in GB of images in memory. Images of larger sets are read when they are needed, and the
            result of their check is cached.
        square: side of the central square that is cut out first.
        levels: values of more than 8 bits that become 0 and 255.
        pages: whether each page of a file is an image, or only the first.
        max_pixels: largest number of pixels of a file.
        channels: number of channels that are not colours, in place of `grey`.

    Raises DataError for bad files, of which it names the first ten, or for sizes that differ.
    """
    origin, numbers = torch.arange(len(paths)), None
    if pages == "all":
        with _pillow():
            counts = torch.tensor([_pages(path, max_pixels) for path in paths])
        origin = origin.repeat_interleave(counts)
        numbers = [page for count in counts.tolist() for page in range(count)]
    files = [paths[i] for i in origin.tolist()]
    first = (size, size) if size is not None else first_size(paths, max_pixels, channels)
    shape = (channels or (1 if grey else 3), *first)
    source = Files(files, shape, square, levels, max_pixels, numbers, channels is not None)
    images, n = None, len(files)
    if n * torch.Size(shape).numel() <= memory * 1e9:
        try:
            images = torch.empty(n, *shape, dtype=torch.uint8)
        except RuntimeError as error:
            short = f"{n} images of {shape} do not fit into memory"
            raise DataError(
                f"{printable(str(where))}: {short}; set a smaller dataset.memory or dataset.size"
            ) from error
        outcomes = source.decode(range(n), images.numpy())
    else:
        outcomes = _checked(source)
    broken = {i: outcome for i, outcome in enumerate(outcomes) if isinstance(outcome, str)}
    skipped = [f"{source._name(i)}: {reason}" for i, reason in broken.items()]
    if broken:
        _complain(skipped, printable(str(where)), n, bad, report)
    kept = torch.tensor([i for i in range(n) if i not in broken], dtype=torch.int64)
    if not len(kept):
        raise DataError(f"{printable(str(where))}: none of the {n} files can be read as an image")
    _remark(source, where)
    sizes = torch.tensor([outcome for outcome in outcomes if not isinstance(outcome, str)])
    if size is None and len(different := sizes.unique(dim=0)) > 1:
        some = [f"{height}x{width}" for height, width in different[:3].tolist()] + ["..."] * (len(different) > 3)
        found = f"images of {len(different)} sizes ({', '.join(some)})"
        raise DataError(f"{printable(str(where))}: {found}; set dataset.size to resize them")
    mixed = square is None and bool((sizes != torch.tensor(shape[1:])).any())
    chosen = Lazy(source, kept) if images is None else images if not broken else images[kept]
    return Split(chosen, sizes=sizes if mixed else None, skipped=skipped), origin[kept]


def first_size(paths: Sequence[Path], max_pixels: int, channels: int | None = None) -> tuple[int, int]:
    """Height and width of the first file that can be read as an image; (1, 1) if there is none."""
    for path in paths:
        try:
            if channels is not None and path.suffix.lower() == ARRAY:
                _, height, width = opened_array(path, channels, max_pixels).shape
                return height, width
            with _pillow(), _opened(path, max_pixels) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return image.height, image.width
        except Exception:  # the file is reported later, with the reason
            continue
    return 1, 1


def _remark(source: Files, where: Path) -> None:
    """Say what is lost of the images as they are read."""
    if source.tops and (top := max(source.tops)) < 1 << 14:
        levels = f"the largest 16-bit pixel is {top}, so there are only {round(top / 257) + 1} grey levels"
        say(f"{where}: {levels}; --set dataset.range=0,{max(top, 1)} makes them 256")
    if source.several:
        n = len(set(source.several))
        say(f"{where}: only the first page is used of {n} files with several; --set dataset.pages=all uses all")


def _checked(source: Files) -> list[tuple[int, int] | str]:
    """The result of `source.decode` for all files, from the cache if they have not changed since an earlier check."""
    digest = hashlib.blake2b(source.identity.encode(), digest_size=16).hexdigest()
    record = cache_folder() / "files" / f"{digest}.json"
    with suppress(OSError, ValueError, RecursionError):  # whatever is wrong, the files are checked again
        if regular(record) and _is_record(found := json.loads(record.read_text()), len(source.paths)):
            return [each if isinstance(each, str) else tuple(each) for each in found]
    outcomes = source.decode(range(len(source.paths)), None)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        draft = record.with_name(f".{record.name}.{os.getpid()}")
        draft.write_text(json.dumps(outcomes))
        os.replace(draft, record)
    except OSError as error:
        say(f"{record} cannot be written ({error.strerror}), so the files will be checked again next time")
    return outcomes


def _is_record(found: Any, n: int) -> bool:
    def is_size(each: Any) -> bool:
        return isinstance(each, list) and [type(value) for value in each] == [int, int]

    return isinstance(found, list) and len(found) == n and all(isinstance(e, str) or is_size(e) for e in found)


def _complain(skipped: Sequence[str], where: str, total: int, bad: str, report: str) -> None:
    """Raise DataError, or write the list of skipped files and say where it is."""
    named = [line.removeprefix(f"{where}{os.sep}").partition(": ") for line in skipped[:_NAMED]]
    some = [f"{name} ({reason})" for name, _, reason in named] + ["..."] * (len(skipped) > _NAMED)
    summary = f"{where}: {len(skipped)} of {total} files cannot be read as images: {', '.join(some)}"
    if bad == "fail":
        raise DataError(f"{summary}; use --bad-images skip (dataset.bad_images=skip) to leave them out")
    path = cache_folder() / "bad-images" / report
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in skipped), encoding="utf-8")
        say(f"{summary}; these are skipped, the full list is in {path}")
    except OSError as error:
        say(f"{summary}; these are skipped. The list {path} cannot be written ({error.strerror})")
