"""Any folder of images is a dataset, and what is wrong with it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sslx.api import ConfigError, DataError
from sslx.data_loaders.folder import Folder

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
    assert message.count("cut") + message.count("text") == 10 and "a/cut0.jpg" in message and "\n" not in message


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
        (_strange_class, "classes that .*train does not have: c"),
        (_half_labelled, "one of train and test has a folder for each class"),
        (_loose, "1 files lie beside the folders of classes, stray.png"),
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


def test_a_folder_that_is_not_there_is_the_option_s_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset.path: .*nowhere is no folder"):
        Folder(path=tmp_path / "nowhere").load(tmp_path, offline=True)


def test_a_run_trains_on_a_folder_by_its_path(command: Callable[..., Any], tmp_path: Path) -> None:
    classes(tmp_path / "data")
    arguments = ["-d", f"folder:{tmp_path / 'data'}", "--epochs", "1", "--batch-size", "8", "--set", "encoder.hidden=8"]
    code, out, errors = command("run", "-p", "simclr", *arguments, "--evaluators", "knn", "--device", "cpu")
    assert code == 0, errors
    assert "knn" in out
