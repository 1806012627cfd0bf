"""Any folder of images is a dataset, and what is wrong with it is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sslx.api import ConfigError, DataError, Lazy
from sslx.core.training.config import configure
from sslx.data_loaders.datasets.files import Files
from sslx.data_loaders.datasets.folder import Folder
from sslx.data_loaders.datasets.imagenet import ImageNet


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))  # no image


COLOURS = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255)}


def paint(path: Path, colour: tuple[int, ...] | int = (255, 0, 0), size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(path)
    return path


def classes(root: Path, names: str = "abc", n: int = 10) -> Path:
    for name in names:
        for i in range(n):
            paint(root / name / f"{i}.png", COLOURS[name])
    return root


def test_sub_folders_are_labels_and_a_given_split_is_kept(tmp_path: Path) -> None:
    classes(tmp_path / "data" / "train", n=3)
    classes(tmp_path / "data" / "test", "bc", n=2)
    train, test = Folder(path=tmp_path / "data").load(tmp_path, offline=True)
    assert train.labels is not None and train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert test.labels is not None and test.labels.tolist() == [1, 1, 2, 2]  # numbered as in training
    for split in (train, test):
        assert split.images.dtype == torch.uint8 and split.images.shape[1:] == (3, 8, 8) and not split.factors
        assert split.labels is not None and torch.equal(split.images[:, :, 0, 0].argmax(dim=1), split.labels)


def test_without_a_split_every_fifth_image_of_a_class_is_for_testing(tmp_path: Path) -> None:
    train, test = Folder(path=classes(tmp_path / "data")).load(tmp_path, offline=True)
    assert train.labels is not None and train.labels.bincount().tolist() == [8, 8, 8]
    assert test.labels is not None and test.labels.bincount().tolist() == [2, 2, 2]


def test_the_split_is_the_same_every_time(tmp_path: Path) -> None:
    for i in range(20):
        paint(tmp_path / "data" / f"{i}.png", i)
    halves = [Folder(path=tmp_path / "data", grey=True).load(tmp_path, offline=True) for _ in range(2)]
    assert torch.equal(halves[0][1].images, halves[1][1].images)
    train, test = halves[0]
    assert train.labels is None and test.labels is None and len(train) == 16 and len(test) == 4
    assert torch.cat([train.images, test.images])[:, 0, 0, 0].sort().values.tolist() == list(range(20))


def test_formats_sizes_and_modes_may_be_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    paint(folder / "0.png", 200, size=(10, 20))
    paint(folder / "1.jpg", (200, 200, 200), size=(30, 15))
    paint(folder / "2.webp", (200, 200, 200), size=(16, 16))
    Image.new("RGBA", (12, 12), (200, 200, 200, 255)).save(folder / "3.PNG")
    Image.new("P", (12, 12), 0).save(folder / "4.png")
    train, test = Folder(path=folder, size=16).load(tmp_path, offline=True)
    images = torch.cat([train.images, test.images])
    assert images.shape == (5, 3, 16, 16) and sorted(images[:, 0, 0, 0].tolist())[0] == 0
    assert all(abs(value - 200) <= 2 for value in sorted(images[:, 0, 0, 0].tolist())[1:])
    assert train.sizes is not None
    sizes = set(map(tuple, train.sizes.tolist()))
    assert sizes <= {(20, 10), (15, 30), (16, 16), (12, 12)} and len(sizes) > 1
    with pytest.raises(DataError, match=r"images of 4 sizes .*set dataset.size"):
        Folder(path=folder).load(tmp_path, offline=True)


def pixel(image: Image.Image, path: Path, grey: bool = False, **options: Any) -> list[int]:
    """The first pixel of an image file, as the folder dataset reads it."""
    path.parent.mkdir()
    for i in range(2):
        image.save(path.with_stem(str(i)), **options)
    train, _ = Folder(path=path.parent, grey=grey).load(path.parent, offline=True)
    assert train.images.shape[1] == (1 if grey else 3)
    return train.images[0, :, 0, 0].tolist()


def test_every_mode_is_what_a_viewer_shows(tmp_path: Path) -> None:
    black, red = (0, 0, 0), (255, 0, 0)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([*black, *red])
    clear = Image.new("P", (8, 8), 0)
    clear.putpalette([*black, *red])
    wide = Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))
    cases: dict[str, tuple[Image.Image, str, dict[str, Any], list[int]]] = {
        "grey": (Image.new("L", (8, 8), 77), "png", {}, [77] * 3),
        "bits": (Image.new("1", (8, 8), 1), "png", {}, [255] * 3),
        "16": (wide, "png", {}, [100] * 3),
        "16-tiff": (wide, "tiff", {}, [100] * 3),
        "palette": (palette, "png", {}, [255, 0, 0]),
        "clear-palette": (clear, "png", {"transparency": 0}, [255] * 3),
        "half-clear": (Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "png", {}, [127] * 3),
        "clear-grey": (Image.new("LA", (8, 8), (0, 0)), "png", {}, [255] * 3),
        "webp": (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "webp", {"lossless": True}, [255] * 3),
        "cmyk": (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "tiff", {}, [255, 0, 0]),
    }
    for name, (image, suffix, options, expected) in cases.items():
        assert pixel(image, tmp_path / name / f"x.{suffix}", **options) == expected, name
    found = pixel(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "cmyk-jpeg" / "x.jpg", quality=95)
    assert max(abs(a - b) for a, b in zip(found, [255, 0, 0], strict=True)) < 8
    assert pixel(Image.new("RGB", (8, 8), (255, 0, 0)), tmp_path / "to-grey" / "x.png", grey=True) == [76]
    with pytest.raises(DataError, match="none of the 2 files|cannot be read as images"):
        pixel(Image.fromarray(np.zeros((8, 8), np.float32)), tmp_path / "floats" / "x.tiff")


def test_an_image_stands_upright_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("L", (20, 10), 0)
    image.paste(255, (0, 0, 20, 3))  # the top is bright
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    (tmp_path / "data").mkdir()
    for i in range(2):
        image.save(tmp_path / "data" / f"{i}.jpg", exif=exif, quality=95)
    train, _ = Folder(path=tmp_path / "data", grey=True).load(tmp_path, offline=True)
    assert train.images.shape[2:] == (20, 10)
    right, left = train.images[0, 0, :, -3:].float().mean(), train.images[0, 0, :, :6].float().mean()
    assert right > 200 and left < 20


def test_a_set_that_is_too_large_is_read_from_its_files_when_needed(tmp_path: Path) -> None:
    folder, generator = tmp_path / "data", torch.Generator().manual_seed(0)
    for i in range(30):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (10 + i, 40 - i, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / "ab"[i % 2] / f"{i}.png")
    whole = Folder(path=folder, size=16).load(tmp_path, offline=True)
    lazy = Folder(path=folder, size=16, memory=0).load(tmp_path, offline=True)
    for split, other in zip(lazy, whole, strict=True):
        assert isinstance(split.images, Lazy) and split.images.shape == other.images.shape
        order = torch.randperm(len(split), generator=generator)
        assert torch.equal(split.images[order], other.images[order])
        assert split.labels is not None and other.labels is not None and torch.equal(split.labels, other.labels)
        assert split.sizes is not None and other.sizes is not None and torch.equal(split.sizes, other.sizes)
        some = split.take(order[:3])
        assert isinstance(some.images, Lazy) and torch.equal(some.images[torch.tensor([1])], other.images[order[1:2]])


def test_a_large_set_is_checked_once_and_again_when_a_file_changes(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, calls = Files.decode, []
    monkeypatch.setattr(Files, "decode", lambda self, *rest: calls.append(self) or decode(self, *rest))
    options = {"path": damaged, "bad_images": "skip", "memory": 0}
    train, test = Folder(**options).load(tmp_path, offline=True)
    again, _ = Folder(**options).load(tmp_path, offline=True)
    assert (
        len(calls) == 1 and len(train) + len(test) == 30 and train.skipped == again.skipped and len(train.skipped) == 12
    )
    (damaged / "a" / "cut0.jpg").unlink()
    train, _ = Folder(**options).load(tmp_path, offline=True)
    assert len(calls) == 2 and len(train.skipped) == 11
    for i in range(10):
        (damaged / "a" / f"{i}.png").write_text("no image")
    with pytest.raises(DataError, match="files have changed since they were checked"):
        train.images[torch.arange(len(train))]


def test_nothing_is_lost_of_an_image_that_is_no_square(tmp_path: Path) -> None:
    image = Image.new("L", (40, 10), 0)
    image.paste(255, (36, 0, 40, 10))  # the last tenth of the width
    (tmp_path / "data").mkdir()
    for i in range(2):
        image.save(tmp_path / "data" / f"{i}.png")
    train, _ = Folder(path=tmp_path / "data", size=10, grey=True).load(tmp_path, offline=True)
    assert train.images[0, 0, 5, 0] == 0 and train.images[0, 0, 5, -1] > 200


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder of 30 images and 12 other files."""
    folder = classes(tmp_path / "data")
    whole = paint(tmp_path / "whole.jpg", size=(64, 64)).read_bytes()
    for i in range(6):
        (folder / "a" / f"cut{i}.jpg").write_bytes(whole[: len(whole) // 2])
        (folder / "b" / f"text{i}.png").write_text("not an image")
    return folder


def test_bad_images_stop_the_run_and_the_first_ten_are_named(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"12 of 42 files cannot be read as images: .*bad_images=skip") as error:
        Folder(path=damaged).load(tmp_path, offline=True)
    message = str(error.value)
    assert message.count("cut") + message.count("text") == 10 and "\n" not in message
    assert re.search(
        r"a/cut0\.jpg \([^)]*[Tt]runcated[^)]*\), .*b/text0\.png \(cannot identify image file\), ", message
    )


def test_skipped_images_are_listed_and_the_labels_still_belong_to_the_others(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = Folder(path=damaged, bad_images="skip").load(tmp_path, offline=True)
    assert len(train) + len(test) == 30 and train.labels is not None
    assert torch.equal(train.images[:, :, 0, 0].argmax(dim=1), train.labels)
    said = capsys.readouterr().err
    assert "12 of 42" in said
    lines = Path(said.strip().rpartition(" ")[2]).read_text().splitlines()
    assert len(lines) == 12 and all("cut" in line or "text" in line for line in lines)


def test_the_list_of_skipped_images_is_also_in_the_run(
    damaged: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["-d", f"folder:{damaged}", "--bad-images", "skip", "--batch-size", "8", "-s", "encoder.hidden=8"]
    code, _, errors = command(
        "run", "-p", "simclr", *words, "--epochs", "1", "-e", "knn", "-o", "run", "--device", "cpu"
    )
    assert code == 0, errors
    lines = (tmp_path / "run" / "bad-images.txt").read_text().splitlines()
    assert len(lines) == 12 and all(("cut" in line or "text" in line) and ": " in line for line in lines)


def test_imagenet_is_read_as_torchvision_lays_it_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*imagenet/train; get the files from image-net.org") as error:
        ImageNet().load(tmp_path, offline=False)
    assert "\n" not in str(error.value)
    for half, n in (("train", 3), ("val", 1)):
        for i in range(n):
            for synset, colour in (("n01440764", (255, 0, 0)), ("n01443537", (0, 255, 0))):
                paint(tmp_path / "imagenet" / half / synset / f"{i}.png", colour, size=(50, 40))
    train, test = ImageNet(memory=0).load(tmp_path, offline=True)
    assert isinstance(train.images, Lazy) and train.images.shape == (6, 3, 256, 256) and len(test) == 2
    assert train.labels is not None and train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.sizes is not None and train.sizes.unique(dim=0).tolist() == [[40, 50]]


def _strange_class(root: Path) -> None:
    classes(root / "train", "ab")
    classes(root / "test", "bc")


def _half_labelled(root: Path) -> None:
    classes(root / "train", "ab")
    paint(root / "test" / "0.png")


def _loose(root: Path) -> None:
    classes(root)
    paint(root / "stray.png")


def _empty_class(root: Path) -> None:
    classes(root)
    (root / "d").mkdir()


def _no_test(root: Path) -> None:
    classes(root / "train")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_strange_class, "classes that are missing in .*train: c"),
        (_half_labelled, "train has class folders and test has none; put the images of both"),
        (_loose, "1 file is next to the class folders, for example stray.png; use --bad-images skip"),
        (_empty_class, "classes without an image: d"),
        (_no_test, "has train; expected train and one of test, val"),
        (lambda root: root.mkdir(), "there are no images"),
    ],
)
def test_labels_that_disagree_with_the_images_are_fatal(
    make: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        Folder(path=tmp_path / "data").load(tmp_path, offline=True)


def test_files_next_to_the_class_folders_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _loose(tmp_path / "data")
    (tmp_path / "data" / "readme.txt").write_text("photographs of the year")
    with pytest.raises(
        DataError, match=r"2 files are next to the class folders, for example readme.txt; use .* them o"
    ):
        Folder(path=tmp_path / "data").load(tmp_path, offline=True)
    found = Folder(path=tmp_path / "data", bad_images="skip").load(tmp_path, offline=True)
    (tmp_path / "data" / "readme.txt").unlink()
    (tmp_path / "data" / "stray.png").unlink()
    expected = Folder(path=tmp_path / "data").load(tmp_path, offline=True)
    assert all(torch.equal(a.images, b.images) for a, b in zip(found, expected, strict=True))
    assert [line.split(": ")[0].rsplit("/")[-1] for line in found[0].skipped] == ["readme.txt", "stray.png"]
    assert "2 files are next to the class folders, for example readme.txt, and are skipped" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_the_option_s_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset.path: .*nowhere does not exist or is not a folder"):
        Folder(path=tmp_path / "nowhere").load(tmp_path, offline=True)


def test_a_run_trains_on_a_folder_by_its_path(command: Callable[..., Any], tmp_path: Path) -> None:
    classes(tmp_path / "data")
    arguments = ["-d", f"folder:{tmp_path / 'data'}", "--epochs", "1", "--batch-size", "8", "--set", "encoder.hidden=8"]
    code, out, errors = command("run", "-p", "simclr", *arguments, "--evaluators", "knn", "--device", "cpu")
    assert code == 0, errors
    assert "knn" in out


@pytest.mark.parametrize("dataset", ["folder:PATH", "beton:x.beton"])
def test_your_images_are_cropped_and_mirrored_unless_you_say_otherwise(dataset: str) -> None:
    given = {"method": "simclr", "dataset": dataset}
    policy: Any = configure(given).views
    assert policy.crop == (0.2, 1.0) and policy.hflip == 0.5
    mine: Any = configure(given, {"views": {"crop": (0.1, 0.2)}}).views
    assert mine.crop == (0.1, 0.2) and mine.hflip == 0.5
    other: Any = configure(given, {"views": "aasae"}).views
    assert type(other) is not type(policy)


def test_a_run_among_its_own_images_does_not_change_those_of_the_next(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    classes(tmp_path, "ab")
    words = ["-d", "folder:.", "--epochs", "1", "--batch-size", "8", "-s", "encoder.hidden=8", "--device", "cpu"]
    counts = []
    for _ in range(2):
        code, _, errors = command("run", "-p", "vae", *words, "-s", "decoder.hidden=8", "-e", "knn")
        assert code == 0, errors
        counts.append([len(half) for half in Folder(path=tmp_path).load(tmp_path, offline=True)])
    assert counts == [[16, 4], [16, 4]] and len(list(tmp_path.glob("runs/*/*.png"))) >= 2


def test_one_class_is_not_scored_as_if_it_were_several(command: Callable[..., Any], tmp_path: Path) -> None:
    classes(tmp_path / "data", "a")
    words = ["-d", f"folder:{tmp_path / 'data'}", "--epochs", "1", "--batch-size", "8", "-s", "encoder.hidden=8"]
    code, out, errors = command("run", "-p", "simclr", *words, "-e", "knn", "--device", "cpu")
    assert code == 0 and "knn: skipped, the training set has fewer than two classes" in out + errors, errors
    assert "1.0000" not in out


def layered(root: Path) -> torch.Tensor:
    """Ten images of five channels, in files of several kinds, and their pixels."""
    pixels = torch.randint(256, (10, 5, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    root.mkdir(parents=True)
    for i, image in enumerate(pixels.numpy()):
        if i < 4:
            np.save(root / f"{i}.npy", image if i < 2 else image.transpose(1, 2, 0))
        elif i < 7:
            first, *others = (Image.fromarray(layer) for layer in image)
            first.save(root / f"{i}.tiff", save_all=True, append_images=others)
        else:
            np.save(root / f"{i}.npy", image.astype(np.uint16) * 257)
    return pixels


def test_channels_that_are_not_colours_are_arrays_or_pages(tmp_path: Path) -> None:
    pixels = layered(tmp_path / "data" / "train")
    layered(tmp_path / "data" / "test")
    train, _ = Folder(path=tmp_path / "data", channels=5).load(tmp_path, offline=True)
    assert torch.equal(train.images[:], pixels)
    lazy, _ = Folder(path=tmp_path / "data", channels=5, memory=0).load(tmp_path, offline=True)
    assert isinstance(lazy.images, Lazy) and torch.equal(lazy.images[:], pixels)
    small, _ = Folder(path=tmp_path / "data", channels=5, size=3).load(tmp_path, offline=True)
    by_hand = Image.fromarray(pixels[6, 4].numpy()).resize((3, 3), Image.Resampling.BILINEAR)
    assert np.array_equal(small.images[6][4].numpy(), np.asarray(by_hand))
    wide = Folder(path=tmp_path / "data", channels=5).recommended()
    assert not wide["views"].keys() & {"brightness", "saturation", "hue", "grey"}  # colours that there are not


def test_bands_are_channels_and_floats_need_a_range(tmp_path: Path) -> None:
    four = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    for i in range(5):
        (tmp_path / "bands").mkdir(exist_ok=True)
        Image.fromarray(four, "RGBA").save(tmp_path / "bands" / f"{i}.png")
        (tmp_path / "floats").mkdir(exist_ok=True)
        np.save(tmp_path / "floats" / f"{i}.npy", four / np.float32(255))
    train, _ = Folder(path=tmp_path / "bands", channels=4).load(tmp_path, offline=True)
    assert np.array_equal(train.images[0].numpy(), four.transpose(2, 0, 1))  # transparency hides nothing
    train, _ = Folder(path=tmp_path / "floats", channels=4, range=(0, 1)).load(tmp_path, offline=True)
    assert np.array_equal(train.images[0].numpy(), four.transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"floating-point pixels have an unknown range; set dataset.range"):
        Folder(path=tmp_path / "floats", channels=4).load(tmp_path, offline=True)


@pytest.mark.parametrize(
    ("content", "channels", "said"),
    [
        (np.zeros((2, 5, 6), np.uint8), 5, "expected 5 x H x W or H x W x 5, as dataset.channels says, got 2 x 5 x 6"),
        (np.zeros((5, 0, 6), np.uint8), 5, "got 5 x 0 x 6"),
        (np.zeros((5, 6, 6), np.complex64), 5, "expected numbers, got complex64"),
        (np.full((5, 6, 6), None), 5, "Python objects in dtype"),
        (np.full((5, 6, 6), np.nan, np.float32), 5, "unknown range"),
        (np.zeros((5, 6, 6), np.uint8), None, "an array; set dataset.channels to its number of channels"),
    ],
)
def test_arrays_that_are_no_images_are_one_line(content: Any, channels: int | None, said: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "a.npy", content)
    with pytest.raises(DataError, match=re.escape(said)):
        Folder(path=tmp_path / "data", channels=channels, bad_images="fail").load(tmp_path, offline=True)


def test_a_run_on_five_channels_embeds_and_scores_other_images_of_five(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    layered(tmp_path / "data" / "train" / "a")
    layered(tmp_path / "data" / "train" / "b")
    layered(tmp_path / "data" / "test" / "a")
    words = ("-e", "knn", "--epochs", "1", "--set", "dataset.size=8", "-o", "run", "--device", "cpu")
    assert command("run", "-p", "simvae", "-d", "folder:data", "--set", "dataset.channels=5", *words).code == 0
    assert command("data", "preview", "folder:data", "--set", "dataset.channels=5", "--out", "views.png").code == 0
    assert command("embed", "run", "--dataset", "folder:data/test", "--out", "z.npz").code == 0
    assert command("eval", "run", "--dataset", "folder:data/train").code == 0
    with pytest.raises(ConfigError, match=r"dataset.grey=yes: is not for dataset.channels"):
        Folder(path=tmp_path, channels=5, grey=True)
