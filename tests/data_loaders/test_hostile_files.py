"""Damaged, odd and hostile files: each is refused in one clear line, or read to the right pixels, and nothing hangs."""

from __future__ import annotations

import importlib.util
import io
import math
import os
import pickle
import re
import signal
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from test_datasets import idx

from sslx.api import ConfigError, DataError, Dataset, Split
from sslx.data_loaders.datasets.celeba import _HAIR, CelebA
from sslx.data_loaders.datasets.downloads import obtain
from sslx.data_loaders.datasets.folder import Folder
from sslx.data_loaders.datasets.mnist import MNIST
from sslx.data_loaders.datasets.natural import CIFAR10, CIFAR100, STL10, SVHN

SECONDS = 20


@pytest.fixture(autouse=True)
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """A cache of its own, a limit of time, and no line on the terminal that sslx has not written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"it takes more than {SECONDS} s"))
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    said = capfd.readouterr()
    assert not said.out and "Warning" not in said.err and "Traceback" not in said.err and "\x1b" not in said.err
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "cache"}


def halves(dataset: Dataset, data: Path, said: str | None) -> tuple[Split, Split] | None:
    """The halves of a dataset; or None after an error of one line that says `said`, if this is given."""
    before = listing(data)
    try:
        found = dataset.halves(data, offline=True)
    except (DataError, ConfigError) as error:
        line = str(error)
        assert said is not None and re.search(said, line), line
        assert line.isprintable() and len(line) < 1500
        found = None
    assert listing(data) == before
    assert not found or said in (None, ""), f"it was read, and should be refused: {said}"
    return found


def listing(folder: Path) -> list[bytes]:
    return sorted(
        os.fsencode(Path(root) / name) for root, folders, files in os.walk(folder) for name in folders + files
    )


# --- images -----------------------------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(file, kind, **options)
    return file.getvalue()


FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM")
#: What is done to a file, and whether an error or the same pixels are the only right answers.
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "half": (lambda b: b[: len(b) // 2], "refused"),
    "start": (lambda b: b[:30], "refused"),
    "empty": (lambda b: b"", "refused"),
    "no-magic": (lambda b: b"\0" * 8 + b[8:], "refused"),
    "zeros": (lambda b: bytes(len(b)), "refused"),
    "followed": (lambda b: b + b"garbage" * 100, "same"),
    "twice": (lambda b: b + b, "same"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_image(kind: str, damage: str, tmp_path: Path) -> None:
    (change, right), data, whole = DAMAGES[damage], tmp_path / "data", encoded(kind)
    (data / "whole").write_bytes(whole)
    (data / "x").write_bytes(change(whole))
    found = halves(
        Folder(path=data), data, r"1 of 2 files cannot be read as images: x \(" if right == "refused" else None
    )
    if found:
        train, test = found
        assert torch.equal(train.images, test.images) and len(train) == 1
    skipped = Folder(path=data, bad_images="skip").load(data, True)
    assert sum(map(len, skipped)) == (1 if right == "refused" else 2)


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bits_of_an_image_raise_nothing_else(kind: str, tmp_path: Path) -> None:
    data, whole = tmp_path / "data", encoded(kind)
    (data / "whole").write_bytes(whole)
    for i, position in enumerate([*range(0, 40, 3), *range(40, len(whole), len(whole) // 20)]):
        changed = bytearray(whole)
        changed[position] ^= 1 << (i % 8)
        (data / f"x{i}").write_bytes(changed)
    found = Folder(path=data, bad_images="skip", size=24, max_pixels=10_000).halves(data, True)
    assert all(half.images.shape[1:] == (3, 24, 24) for half in found)
    assert all(line.isprintable() for half in found for line in half.skipped)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of declared size, with further chunks and few pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100)
    )


def gif(width: int, height: int) -> bytes:
    whole = bytearray(encoded("GIF"))
    whole[6:10] = struct.pack("<HH", width, height)
    return bytes(whole)


def tiff(*tags: tuple[int, int, int, int], next_page: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + body + struct.pack("<I", next_page) + bytes(100)


HUGE = {
    "png": png(100_000, 100_000),
    "png-max": png(2**31 - 1, 2**31 - 1),
    "png-text": png(24, 24, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))),
    "bmp": bmp(100_000, 100_000),
    "bmp-negative": bmp(-5, -5),
    "bmp-zero": bmp(0, 0),
    "gif": gif(65_535, 65_535),
    "ppm": b"P6 1000000 1000000 255 ",
    "ppm-digits": b"P6 " + b"9" * 1000 + b" 1 255 ",
    "pfm-infinite": b"Pf\n2 2\ninf\n" + bytes(16),
    "tiff": tiff(
        (256, 4, 1, 2**31), (257, 4, 1, 2**31), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 100), (279, 4, 1, 9)
    ),
    "tiff-tags": tiff(*[(256 + i, 4, 2**31, 4) for i in range(9)]),
    "html": b"<html><body>404</body></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n(executed) (w) file\nshowpage\n%%EOF",
    "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "pickle": pickle.dumps({"a": 1}),
    "fpx-webp": b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(50),
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_a_file_that_is_no_image_of_its_size(name: str, memory: float, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "a").write_bytes(HUGE[name])  # the first file is asked for its size
    for i in range(2):
        (data / f"whole{i}").write_bytes(encoded("PNG"))
    halves(Folder(path=data, memory=memory), data, r"1 of 3 files cannot be read as images: a \(.+\); use")


def one(data: Path, image: Image.Image, suffix: str, grey: bool = True, **options: Any) -> Any:
    """The pixel values of an image of one colour, as `Folder` reads it with these options."""
    for i in range(2):
        image.save(data / f"{i}.{suffix}", **options.pop("save", {}))
    return lambda said=None, **given: (
        (found := halves(Folder(path=data, grey=grey, **given), data, said)) and found[0].images.unique().tolist()
    )


def test_pixels_of_12_bits_in_16_use_all_grey_levels_if_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wide = Image.fromarray(np.array([[0, 1000], [2000, 4095]], np.uint16))
    for suffix in ("png", "tiff"):
        read = one(tmp_path / "data", wide, suffix)
        assert read() == [0, 4, 8, 16]
        line = capfd.readouterr().err
        assert "the largest 16-bit pixel is 4095, so there are only 17 grey levels; --set dataset.range=0,4095" in line
        assert read(range=(0, 4095)) == [0, 62, 125, 255] and read(range=(1000, 2000)) == [0, 255]
        assert not capfd.readouterr().err


def test_pixels_of_32_bits_need_a_range(tmp_path: Path) -> None:
    read = one(tmp_path / "data", Image.fromarray(np.array([[0, 100], [200, 250]], np.int32)), "tiff")
    read(r"32-bit integer pixels have an unknown range; set dataset\.range=LOW,HIGH")
    assert read(range=(0, 250)) == [0, 102, 204, 255]
    negative = one(tmp_path / "data", Image.fromarray(np.array([[-1000, 1000]], np.int32)), "tiff")
    assert negative(range=(-1000, 1000)) == [0, 255]


def test_floats_need_a_range_and_must_be_numbers(tmp_path: Path) -> None:
    read = one(tmp_path / "data", Image.fromarray(np.array([[0, 0.2], [0.5, 1]], np.float32)), "tiff")
    read("floating-point pixels have an unknown range")
    assert read(range=(0, 1)) == [0, 51, 128, 255]
    for value in (math.nan, math.inf):
        bad = one(tmp_path / "data", Image.fromarray(np.array([[value, 0.2]], np.float32)), "tiff")
        bad("pixels that are not finite", range=(0, 1))


def test_colours_of_16_bits_cannot_be_ranged_and_say_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    raw = zlib.compress((b"\0" + struct.pack(">6H", *[4095] * 6)) * 2)
    content = png(2, 2).replace(b"", b"", 0)
    parts = [(b"IHDR", header), (b"IDAT", raw), (b"IEND", b"")]
    content = content[:8] + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts
    )
    for i in range(2):
        (data / f"{i}.png").write_bytes(content)
    assert halves(Folder(path=data), data, None)
    halves(Folder(path=data, range=(0, 4095)), data, "colours of 16 bits are read as 8 bits")


def test_a_range_is_two_numbers_in_order() -> None:
    for wrong in ((5, 5), (2, 1), (0, math.inf), (math.nan, 1)):
        with pytest.raises(ConfigError, match="range: expected"):
            Folder(path=Path(), range=wrong)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_pages_are_images_if_told(kind: str, memory: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    for name in "ab":
        pages = [Image.new("L", (8, 8), 20 * i) for i in range(1, 6)]
        options = {"lossless": True} if kind == "WEBP" else {}
        (data / name).mkdir()
        (data / name / "x").write_bytes(encoded(kind, pages[0], save_all=True, append_images=pages[1:], **options))
    found = halves(
        Folder(path=data, grey=True, memory=memory), data, ""
    )  # two classes of one image: nothing to test on
    assert found is None or len(found[1]) == 0
    assert "only the first page is used of 2 files with several; --set dataset.pages=all" in capfd.readouterr().err
    found = halves(Folder(path=data, grey=True, pages="all", memory=memory), data, None)
    assert found and not capfd.readouterr().err
    train, test = found
    both = torch.cat([half.images[torch.arange(len(half))] for half in found])
    assert (len(train), len(test)) == (8, 2) and sorted(both[:, 0, 0, 0].tolist()) == sorted([20, 40, 60, 80, 100] * 2)
    assert train.labels is not None and train.labels.bincount().tolist() == [4, 4]
    assert train.paths is not None and {path.name for path in train.paths} == {"x"} and len(train.paths) == 8


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    data, pages = tmp_path / "data", [Image.fromarray(PIXELS) for _ in range(3)]
    whole = bytearray(encoded("TIFF", pages[0], save_all=True, append_images=pages[1:]))
    (data / "x.tiff").write_bytes(whole[: len(whole) - 500])
    found = halves(Folder(path=data, pages="all"), data, r"cannot be read as images: x.tiff(, page 3)? \(")
    assert found is None


def test_the_largest_number_of_pixels_is_an_option(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for i in range(2):
        (data / f"{i}.png").write_bytes(encoded("PNG"))
    halves(Folder(path=data, max_pixels=575), data, r"24x24 are 576 pixels, and dataset\.max_pixels is 575")
    assert halves(Folder(path=data, max_pixels=576), data, None)


def test_pillow_s_limit_and_warnings_are_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(data / "0.png", transparency=b"\0\1")
    palette.save(data / "1.png", transparency=b"\0\1")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # Pillow would warn of 64 pixels and refuse 81
    assert halves(Folder(path=data), data, None)
    assert Image.MAX_IMAGE_PIXELS == 40
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(data / "0.png")


# --- names, links and other things in folders -------------------------------------------------------------------------

NAMES = [
    b"line\nbreak.png",
    b"\x1b[31mred\x1b[0m.png",
    b"\xff\xfe.png",
    b"a: b.png",
    b"\xe2\x80\xae.png",
    b"x" * 250,
    b"*?.png",
]


@pytest.mark.parametrize("memory", [4.0, 0.0])
@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name(name: bytes, memory: float, tmp_path: Path) -> None:
    data = tmp_path / "data"
    folder = os.fsencode(data) + b"/class " + name[:100]
    for each in (folder, os.fsencode(data / "other")):
        os.mkdir(each)
        for i in range(2):
            Path(os.fsdecode(each + b"/%d" % i)).write_bytes(encoded("PNG"))
        Path(os.fsdecode(each + b"/" + name)).write_bytes(encoded("PNG"))
    found = halves(Folder(path=data, memory=memory), data, None)
    assert found and sum(map(len, found)) == 6
    assert found[0].images[torch.arange(3)].shape == (3, 3, 24, 24)
    Path(os.fsdecode(folder + b"/" + name)).write_bytes(b"no image")
    halves(Folder(path=data, memory=memory), data, r"1 of 6 files cannot be read as images: class .*cannot identify")
    found = halves(Folder(path=data, memory=memory, bad_images="skip"), data, None)
    assert found and found[0].skipped[0].isprintable()
    (record,) = (tmp_path / "cache" / "sslx" / "bad-images").iterdir()
    assert record.read_text(encoding="utf-8").count("\n") == 1
    Path(os.fsdecode(folder + b"/nested " + name[:100])).mkdir()
    Path(os.fsdecode(os.fsencode(data) + b"/loose " + name[:100])).write_bytes(b"")
    halves(Folder(path=data), data, "1 file is next to the class folders, for example loose")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))


SPECIAL: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pipe": (_fifo, "not a regular file"),
    "socket": (_socket, "not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "terminal": (lambda path: path.symlink_to("/dev/stdin"), "not a regular file|cannot be read|No such"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "self": (lambda path: path.symlink_to(path.name), "[Tt]oo many levels"),
}


@pytest.mark.parametrize("depth", ["x", "c/x", "c/d/x"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_not_a_file(kind: str, depth: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    monkeypatch.chdir(data)
    path = data / depth
    path.parent.mkdir(parents=True, exist_ok=True)
    for i in range(2):
        (path.parent / f"{i}").write_bytes(encoded("PNG"))
    make, said = SPECIAL[kind]
    make(path)
    halves(Folder(path=data), data, rf"1 of 3 files cannot be read as images: {depth} \(.*({said})")


def test_linked_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for i in range(5):
        for name in ("set/a", "set/b", "elsewhere/more", "elsewhere/more/deep"):
            (data / name).mkdir(parents=True, exist_ok=True)
            (data / name / f"{i}").write_bytes(encoded("PNG"))
    (data / "set/a/linked").symlink_to(data / "elsewhere")
    (data / "set/a/again").symlink_to(data / "elsewhere" / "more")
    (data / "set/a/loop").symlink_to(data / "set" / "a")
    (data / "set/a/up").symlink_to(data / "set")
    (data / "set/a/top").symlink_to("/")
    (data / "elsewhere/more/deep/back").symlink_to(data / "elsewhere")
    (data / "set/c").symlink_to(data / "set" / "b")
    found = halves(Folder(path=data / "set"), data, None)
    assert found
    total = sum(half.labels.bincount(minlength=3) for half in found if half.labels is not None)
    assert torch.as_tensor(total).tolist() == [15, 5, 5]


def test_nested_far_deeper_than_a_path_can_be_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    here = os.open(data, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("x" * 100, dir_fd=here)
        here, above = os.open("x" * 100, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    with pytest.raises(DataError, match="File name too long") as error:
        Folder(path=data).halves(data, True)
    assert str(error.value).isprintable()


def test_runs_and_litter_in_a_folder_of_images_are_left_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("a/x", "b/x", "runs/first/pictures", "runs/grid/run-1", "a/runs/first", "__MACOSX/a", ".git/a"):
        (data / name).mkdir(parents=True)
        for i in range(5):
            (data / name / f"{i}.png").write_bytes(encoded("PNG"))
    for name in ("runs/first/run.json", "runs/grid/grid.json", "a/runs/first/run.json", "a/Thumbs.db", "desktop.ini"):
        (data / name).write_text("{}")
    found = halves(Folder(path=data), data, None)
    assert found and sum(map(len, found)) == 10
    train, _ = found
    assert train.labels is not None and train.labels.bincount().tolist() == [4, 4]


def test_a_cache_that_cannot_be_used_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for i in range(6):
        (data / f"{i}").write_bytes(encoded("PNG") if i else b"no image")
    monkeypatch.setenv("XDG_CACHE_HOME", str(data / "1"))  # a file
    for memory in (4.0, 0.0):
        found = halves(Folder(path=data, bad_images="skip", memory=memory), data, None)
        assert found and sum(map(len, found)) == 5
        assert re.search(r"1 of 6 files.*these are skipped\. The list .* cannot be written", capfd.readouterr().err)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[1, 2]", '{"a": 1}', "[[1, 2, 3], 4]", "[" * 100_000, '[["a", 1]]']
)
def test_a_damaged_record_of_checked_files_is_made_again(content: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for i in range(5):
        (data / f"{i}").write_bytes(encoded("PNG"))
    assert halves(Folder(path=data, memory=0), data, None)
    (record,) = (tmp_path / "cache" / "sslx" / "files").iterdir()
    right = record.read_text()
    record.write_text(content)
    assert halves(Folder(path=data, memory=0), data, None) and record.read_text() == right


# --- the split --------------------------------------------------------------------------------------------------------


def test_small_classes_are_trained_on(tmp_path: Path) -> None:
    data, counts = tmp_path / "data", [7, 1, 5, 1, 1, 12, 2, 10, 1, 3]
    for label, n in enumerate(counts):
        (data / f"{label}").mkdir()
        for i in range(n):
            (data / f"{label}" / f"{i}").write_bytes(encoded("PNG"))
    found = halves(Folder(path=data), data, None)
    assert found and found[0].labels is not None and found[1].labels is not None
    train, test = (half.labels.bincount(minlength=10).tolist() for half in found if half.labels is not None)
    for n, trained, tested in zip(counts, train, test, strict=True):
        assert trained + tested == n and trained >= 1 and tested in (n // 5, -(-n // 5) if n > 1 else 0)


def test_one_image_is_for_training(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "x.png").write_bytes(encoded("PNG"))
    train, test = Folder(path=data).load(data, True)
    assert len(train) == 1 and len(test) == 0
    assert torch.equal(train.images[0], torch.from_numpy(PIXELS).permute(2, 0, 1))


def test_training_images_need_no_labels(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("train", "test/b", "test/a"):
        (data / name).mkdir(parents=True)
        for i in range(3):
            (data / name / f"{i}").write_bytes(encoded("PNG"))
    found = halves(Folder(path=data), data, None)
    assert found
    train, test = found
    assert train.labels is None and test.labels is not None and test.labels.tolist() == [0, 0, 0, 1, 1, 1]


# --- downloaded datasets ----------------------------------------------------------------------------------------------


def mnist(data: Path) -> Path:
    raw = data / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for half, n in (("train", 5), ("t10k", 2)):
        (raw / f"{half}-images-idx3-ubyte").write_bytes(idx(n, 28, 28))
        (raw / f"{half}-labels-idx1-ubyte").write_bytes(idx(n))
    return raw


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
IDX: dict[str, tuple[str, Any]] = {
    "images-cut": (IMAGES, idx(5, 28, 28)[:-1]),
    "images-more": (IMAGES, idx(5, 28, 28) + b"x"),
    "images-empty": (IMAGES, b""),
    "images-header": (IMAGES, idx(5, 28, 28)[:10]),
    "images-magic": (IMAGES, b"\x1f\x8b" + idx(5, 28, 28)),
    "images-floats": (IMAGES, idx(5, 28, 28, kind=13)),
    "images-kind": (IMAGES, idx(5, 28, 28, kind=99)),
    "images-2d": (IMAGES, idx(5, 784)),
    "images-4d": (IMAGES, idx(5, 28, 28, 1)),
    "images-size": (IMAGES, idx(5, 27, 29)),
    "images-huge": (IMAGES, bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(100)),
    "images-overflow": (IMAGES, bytes([0, 0, 8, 3]) + (2**31).to_bytes(4, "big") * 3 + bytes(100)),
    "images-none": (IMAGES, idx(0, 28, 28)),
    "labels-200": (LABELS, idx(5)[:-1] + bytes([200])),
    "labels-10": (LABELS, idx(5)[:-1] + bytes([10])),
    "labels-fewer": (LABELS, idx(4)),
    "labels-signed": (LABELS, idx(5, kind=9)),
    "labels-2d": (LABELS, idx(5, 1)),
    "labels-pipe": (LABELS, _fifo),
    "labels-folder": (LABELS, lambda path: path.mkdir()),
    "images-device": (IMAGES, lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("name", IDX)
def test_a_wrong_idx_file(name: str, tmp_path: Path) -> None:
    file, content = IDX[name]
    path = mnist(tmp_path / "data") / file
    path.unlink()
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    halves(MNIST(), tmp_path / "data", r"MNIST/raw/.*(cannot be read|there are)")


def test_a_legacy_folder_beside_mnist_s_files_is_not_read(tmp_path: Path) -> None:
    (mnist(tmp_path / "data").parent / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        _fifo(tmp_path / "data" / "MNIST" / "processed" / name)
    found = halves(MNIST(), tmp_path / "data", None)
    assert found and (len(found[0]), len(found[1])) == (5, 2)


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


class Endless:
    def __reduce__(self) -> Any:
        return np.ndarray, ((1 << 40,),)


RIGHT = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 9]}
BATCHES: dict[str, tuple[Any, str]] = {
    "labels-negative": ({**RIGHT, "labels": [-5, 1]}, "labels from -5 to 1, expected 10 classes"),
    "labels-large": ({**RIGHT, "labels": [0, 10]}, "labels from 0 to 10"),
    "labels-huge": ({**RIGHT, "labels": [0, 1 << 70]}, "expected integers"),
    "labels-floats": ({**RIGHT, "labels": [0.5, 1.0]}, "expected integers .* float64"),
    "labels-text": ({**RIGHT, "labels": ["a", "b"]}, "expected integers"),
    "labels-none": ({"data": RIGHT["data"]}, "there is no 'labels'"),
    "labels-more": ({**RIGHT, "labels": [0, 1, 2]}, "2 images but 3 labels"),
    "pixels-floats": ({**RIGHT, "data": np.full((2, 3072), 300.0)}, "expected integers of at most 255, got float64"),
    "pixels-300": ({**RIGHT, "data": np.full((2, 3072), 300)}, "expected integers of at most 255"),
    "pixels-negative": ({**RIGHT, "data": np.full((2, 3072), -256)}, "expected integers of at most 255"),
    "pixels-shape": ({**RIGHT, "data": np.zeros((2, 3000), np.uint8)}, "cannot be read"),
    "pixels-objects": ({**RIGHT, "data": np.array([None] * 6144)}, "expected integers"),
    "pixels-text": ({**RIGHT, "data": "text"}, "expected integers"),
    "list": ([1, 2, 3], "cannot be read"),
    "number": (5, "cannot be read"),
    "code": ({**RIGHT, "x": Bomb()}, "which image data do not need"),
    "memory": ({**RIGHT, "x": Endless()}, "cannot be read"),
    "deep": ("deep", "cannot be read"),
    "cut": ("cut", "cannot be read"),
    "text": (b"hello\nworld", "cannot be read"),
}


def cifar(data: Path) -> Path:
    base = data / "cifar-10-batches-py"
    base.mkdir()
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (base / name).write_bytes(pickle.dumps(RIGHT, protocol=2))
    return base


@pytest.mark.parametrize("name", BATCHES)
def test_a_wrong_batch_of_cifar(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "data")
    content, said = BATCHES[name]
    if isinstance(content, str):
        content = pickle.dumps(RIGHT)[:-20] if content == "cut" else b"(" * 2_000_000
    raw = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
    (cifar(tmp_path / "data") / "data_batch_3").write_bytes(raw)
    halves(CIFAR10(), tmp_path / "data", f"data_batch_3.*{said}")


def test_cifar100_s_superclasses_are_checked(tmp_path: Path) -> None:
    base = tmp_path / "data" / "cifar-100-python"
    base.mkdir()
    for name in ("train", "test"):
        content = {"data": RIGHT["data"], "fine_labels": [99, 3], "coarse_labels": [19, 20]}
        (base / name).write_bytes(pickle.dumps(content, protocol=2))
    halves(CIFAR100(), tmp_path / "data", "labels from 19 to 20, expected 20 classes")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((32, 32, 3, 2), np.uint8), [[11], [1]]),
        (np.zeros((32, 32, 3, 2), np.uint8), [[-1], [1]]),
        (np.zeros((32, 32, 3, 2), np.uint8), [[1.5], [1]]),
        (np.zeros((32, 32, 3, 2), np.uint8), [[1], [1], [1]]),
        (np.zeros((32, 32, 3, 2), np.float64), [[1], [1]]),
        (np.zeros((31, 32, 3, 2), np.uint8), [[1], [1]]),
        (np.zeros((2, 3072), np.uint8), [[1], [1]]),
    ],
)
def test_wrong_files_of_svhn(images: Any, labels: Any, tmp_path: Path) -> None:
    for half in ("train", "test"):
        savemat(tmp_path / "data" / f"{half}_32x32.mat", {"X": images, "y": np.array(labels)})
    halves(SVHN(), tmp_path / "data", r"train_32x32\.mat")


@pytest.mark.parametrize(("file", "content"), [
    ("train_y.bin", bytes([0, 1])), ("train_y.bin", bytes([1, 11])), ("train_y.bin", bytes([1])),
    ("train_X.bin", bytes(96 * 96 * 3 - 1)), ("train_X.bin", b""), ("test_y.bin", bytes([255, 1])),
])  # fmt: skip
def test_wrong_files_of_stl10(file: str, content: bytes, tmp_path: Path) -> None:
    base = tmp_path / "data" / "stl10_binary"
    base.mkdir()
    for name in ("train", "test", "unlabeled"):
        (base / f"{name}_X.bin").write_bytes(bytes(2 * 3 * 96 * 96))
        (base / f"{name}_y.bin").write_bytes(bytes([1, 10]))
    (base / file).write_bytes(content)
    halves(STL10(), tmp_path / "data", r"stl10_binary/.*(there are|cannot be read)|split: expected images")


@pytest.mark.parametrize("change", ["0 1 1 1 1 1", "5 1 1 1 1 1", "x 1 1 1 1 1", "1 1", "part", "binary"])
def test_wrong_lists_of_celeba(change: str, tmp_path: Path) -> None:
    base = tmp_path / "data" / "celeba"
    (base / "img_align_celeba").mkdir(parents=True)
    part = {"part": "-7"}.get(change, "0")
    row = change if change[0] in "05x1" else "1 1 1 1 1 1"
    (base / "list_attr_celeba.txt").write_text(f"1\n{' '.join(['Male', *_HAIR])}\n0.jpg {row}\n")
    (base / "list_eval_partition.txt").write_bytes(b"\xff\xfe\0" if change == "binary" else f"0.jpg {part}\n".encode())
    halves(CelebA(), tmp_path / "data", r"list_.*cannot be read")


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "hard-link", "device", "pipe"])
def test_a_hostile_archive_writes_nothing_outside(kind: str, tmp_path: Path) -> None:
    data, archive = tmp_path / "data", io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo({"parent": "../outside", "absolute": str(tmp_path / "outside")}.get(kind, "inside"))
        types = {
            "link": tarfile.SYMTYPE,
            "hard-link": tarfile.LNKTYPE,
            "device": tarfile.CHRTYPE,
            "pipe": tarfile.FIFOTYPE,
        }
        member.type, member.linkname = types.get(kind, tarfile.REGTYPE), str(tmp_path / "outside")
        tar.addfile(member, io.BytesIO(b""))
        if kind == "link":  # and a file through it
            tar.addfile(tarfile.TarInfo("inside/file"), io.BytesIO(b""))

    def unpack() -> None:
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            tar.extractall(data)

    try:
        obtain("Set", data, [data / "none"], unpack, offline=False)
        assert kind == "absolute"  # which is unpacked inside
    except DataError as error:
        assert "could not be downloaded" in str(error) and str(error).isprintable()
    assert not (tmp_path / "outside").exists()


def test_a_folder_of_jpeg_files_as_cifar_s(tmp_path: Path) -> None:
    """A layout in which CIFAR-10 is often shared; one file is cut short, one is a PNG with the name of a JPEG."""
    data = tmp_path / "data"
    for half, n in (("train", 4), ("test", 2)):
        for label in ("airplane", "automobile", "bird"):
            (data / half / label).mkdir(parents=True)
            for i in range(n):
                image = Image.new("RGB", (32, 32), (40 * i, 100, 200))
                (data / half / label / f"{i}.jpg").write_bytes(encoded("JPEG", image, quality=95))
    (data / "train" / "bird" / "3.jpg").write_bytes(encoded("PNG", Image.new("RGB", (32, 32), (120, 100, 200))))
    found = halves(Folder(path=data), data, None)
    assert found and (len(found[0]), len(found[1])) == (12, 6)
    assert (found[0].images[:, :, 0, 0].float() - torch.tensor([0.0, 100, 200])).abs()[:, 1:].max() < 4
    path = data / "test" / "bird" / "1.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    halves(Folder(path=data), data, r"test: 1 of 6 files cannot be read as images: bird/1.jpg \(.*[Tt]runcated")


# --- .beton files -----------------------------------------------------------------------------------------------------

needs_ffcv = pytest.mark.skipif(importlib.util.find_spec("ffcv") is None, reason="FFCV is not installed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A `.beton` file by the way its images are stored."""
    from sslx.data_loaders import beton

    generator, patch = torch.Generator().manual_seed(0), pytest.MonkeyPatch()
    patch.setattr(beton, "_PAGE", 1 << 21)  # the least that FFCV takes, for speed
    split = Split(torch.randint(256, (12, 3, 8, 8), generator=generator).byte(), torch.arange(12) % 3)
    files = {}
    for storage in ("raw", "jpeg"):
        path = tmp_path_factory.mktemp("beton") / "x.beton"
        beton.write([split.take(torch.arange(10)), split.take(torch.arange(10, 12))], path, storage, 95)
        files[storage] = path.read_bytes()
    patch.undo()
    return files


def converted(path: Path, content: bytes | None = None) -> tuple[Any, ...] | None:
    """Everything of a `.beton` file, with new content if this is given, or None if it is refused in one line."""
    from sslx.data_loaders.datasets.converted import Converted

    if content is not None:
        path.write_bytes(content)
    try:
        found = Converted(path=path).halves(path.parent, True)
        return tuple((half.images[torch.arange(len(half))], half.labels, half.arity, half.sizes) for half in found)
    except DataError as error:
        assert str(error).isprintable() and "x.beton" in str(error)
        return None


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(
        torch.equal(x[0], y[0]) and torch.equal(x[1], y[1]) and x[2:] == y[2:] for x, y in zip(a, b, strict=True)
    )


@needs_ffcv
@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("storage", ["raw", "jpeg"])
def test_flipped_bits_of_a_beton_file(storage: str, sealed: bool, whole: dict[str, bytes], tmp_path: Path) -> None:
    """With its hash every flip is noticed. Without, as version 0.1.0 wrote it, none ends in another error."""
    content, path = whole[storage] if sealed else whole[storage][:-16], tmp_path / "data" / "x.beton"
    right = converted(path, content)
    assert right is not None
    (table,) = struct.unpack("<Q", content[16:24])
    metadata = 24 + 7 * 1041  # the header and the description of seven columns
    first = content.index(bytes(64), metadata + 12 * 56)  # the padding before the images
    positions = [*range(24), 274, 292, *range(24, metadata, 311), *range(metadata, first, 17)]
    positions += [*range(1 << 21, (1 << 21) + 1000, 97), *range(table, len(content), 7), len(content) - 1]
    with open(path, "r+b", buffering=0) as file:
        for i, position in enumerate(positions):
            for value in (content[position] ^ 1 << (i % 8), content[position]):
                file.seek(position)
                file.write(bytes([value]))
                if value != content[position]:
                    found = converted(path)
                    assert found is None or not sealed or same(found, right), f"byte {position}, bit {i % 8}"
    again = converted(path)
    assert again is not None and same(again, right)


@needs_ffcv
@pytest.mark.parametrize("storage", ["raw", "jpeg"])
def test_a_beton_file_that_is_cut_or_longer(storage: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    content, path = whole[storage], tmp_path / "data" / "x.beton"
    for n in (0, 1, 23, 24, 100, 5000, 8000, len(content) // 2, len(content) - 17, len(content) - 1):
        assert converted(path, content[:n]) is None, n
    for tail in (b"x", bytes(8), bytes(16), bytes(24), bytes(40)):
        assert converted(path, content + tail) is None, tail


@needs_ffcv
def test_a_beton_file_that_is_not_a_file(tmp_path: Path) -> None:
    from sslx.data_loaders.datasets.converted import Converted

    path = tmp_path / "data" / "x\n.beton"
    _fifo(path)
    halves(Converted(path=path), tmp_path / "data", "does not exist or is not a file")
