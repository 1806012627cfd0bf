"""`folder:PATH`: your own images, labelled by the folder they are in or not labelled."""

import os
import re
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import attrs
import torch

from sslx.api import ConfigError, DataError, Dataset, Split, option, printable
from sslx.data_loaders.datasets.files import BAD_IMAGES, MAX_PIXELS, MEMORY, find
from sslx.data_loaders.datasets.splitting import halve

_TESTS = ("test", "val")


class Folder(Dataset):
    """Image files in PNG, JPEG, WebP or any other format that Pillow reads, grey or in colour, of any size.

    PATH/train/CLASS/*, PATH/test/CLASS/*    a given split (`val` instead of `test` works as well)
    PATH/CLASS/*                             every fifth image of each class, in a fixed random order, is for testing
    PATH/train/*, PATH/test/* and PATH/*     the same without labels; only the training images may lack them

    Classes are numbered in alphabetical order of the training set. Every file is read as an image, also in folders of
    folders and behind links, except those whose names begin with a dot, `__MACOSX`, and the folders of runs. An image
    is resized as a whole, so nothing is cut off; if its size changed, the crops of views are drawn in its original
    height and width.

    By default a view is a crop of 0.4 to 1 of the image, mirrored half the time.
    """

    defaults = {"views": {"crop": (0.4, 1.0), "hflip": 0.5}}  # without any, all views of an image would be identical

    path: Path = option(help="Folder of the images.")
    size: int | None = option(default=None, gt=0, help="Height and width; by default those of the images, if equal.")
    grey: bool = option(default=False, help="Whether images have one channel instead of three.")
    bad_images: Literal["fail", "skip"] = option(default="fail", help=BAD_IMAGES)
    memory: float = option(default=4.0, ge=0, help=MEMORY)
    range: tuple[float, float] | None = option(
        default=None, help="Pixel values that become 0 and 255, in files of 16 or 32 bits; by default 0 and 65535."
    )
    pages: Literal["first", "all"] = option(
        default="first", help="Which pages of a file with several, such as a TIFF stack, are images."
    )
    max_pixels: int = option(default=MAX_PIXELS, gt=0, help="Largest number of pixels of a file; larger ones are bad.")

    def __attrs_post_init__(self) -> None:
        if self.range is not None and not self.range[0] < self.range[1] < float("inf"):
            raise ConfigError(f"dataset.range: expected two numbers in ascending order, got {self.range}")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        root = self.path.expanduser().resolve()
        if not root.is_dir():
            raise ConfigError(f"dataset.path: {_name(root)} does not exist or is not a folder")
        report = re.sub("[^A-Za-z0-9._-]+", "-", str(root)).strip("-")[-200:]
        halves = [root / name for name in ("train", *_TESTS) if (root / name).is_dir()]
        if not halves:
            whole, _ = self._read(root, f"{report}.txt")
            return halve(whole)
        if len(halves) != 2 or halves[0].name != "train":
            found = " and ".join(half.name for half in halves)
            expected = f"expected train and one of {', '.join(_TESTS)}, or none of these"
            raise DataError(f"{_name(root)}: has {found}; {expected}")
        train, names = self._read(halves[0], f"{report}.train.txt")
        test_split, others = self._read(halves[1], f"{report}.test.txt")
        if train.labels is not None and test_split.labels is None:
            raise DataError(
                f"{_name(root)}: train has class folders and {halves[1].name} has none; put the images of both or of "
                f"{halves[1].name} alone into class folders"
            )
        names = names or others  # the training images need no labels
        if strange := sorted(set(others) - set(names)):
            raise DataError(f"{_name(halves[1])}: classes that are missing in {_name(halves[0])}: {_some(strange)}")
        if train.images.shape[1:] != test_split.images.shape[1:]:
            raise DataError(f"{_name(root)}: training and test images differ in size; set dataset.size to resize them")
        if test_split.labels is not None:  # numbered like the training classes
            numbers = torch.tensor([names.index(name) for name in others])
            test_split = attrs.evolve(test_split, labels=numbers[test_split.labels])
        return train, test_split

    def _read(self, root: Path, report: str) -> tuple[Split, Sequence[str]]:
        """The images below `root` and the names of their classes, which are empty if the images are not labelled."""
        folders, loose = _content(root)
        groups = {path: files for path in folders if (files := _files(path, root)) is not None}
        if groups and loose:
            found = f"{len(loose)} files are next to the class folders, for example {printable(loose[0].name)}"
            raise DataError(f"{_name(root)}: {found}")
        paths = [path for group in groups.values() for path in group] if groups else loose
        if not paths:
            raise DataError(f"{_name(root)}: there are no images")
        split, kept = find(
            paths, root, self.size, self.grey, self.bad_images, report, self.memory,
            levels=self.range, pages=self.pages, max_pixels=self.max_pixels,
        )  # fmt: skip
        split = attrs.evolve(split, paths=[paths[i] for i in kept.tolist()])
        if groups:
            labels = torch.tensor([number for number, group in enumerate(groups.values()) for _ in group])[kept]
            counts = labels.bincount(minlength=len(groups))
            if empty := [path.name for path, n in zip(groups, counts.tolist(), strict=True) if n == 0]:
                raise DataError(f"{_name(root)}: classes without an image: {_some(empty)}")
            split = attrs.evolve(split, labels=labels)
        return split, [path.name for path in groups]


def _name(path: Path) -> str:
    return printable(str(path))


def _some(names: Iterable[str]) -> str:
    """The first ten names."""
    return printable(", ".join([*names][:10]))


def _content(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the other files in a folder, sorted by name, without those that are hidden or `__MACOSX`."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{_name(folder)} cannot be read: {error.strerror}") from error
    visible = [folder / name for name in names if not name.startswith(".") and name != "__MACOSX"]
    folders = [path for path in visible if os.path.isdir(path)]  # False also for a path that is too long
    return folders, [path for path in visible if not os.path.isdir(path)]


def _files(folder: Path, root: Path) -> list[Path] | None:
    """All files below a folder of `root`, also behind links, sorted by name; None if it holds nothing but runs.

    Each folder is read once, and one that holds `root` is not read, so links may form loops.
    """
    seen = {_identity(path) for path in (root, *root.parents)}
    pending, found, runs = deque([folder]), list[Path](), 0
    while pending:
        here = pending.popleft()
        if (who := _identity(here)) in seen or (is_run := _is_run(here)):
            runs += who not in seen and is_run
            continue
        seen.add(who)
        folders, files = _content(here)
        found += files
        for path in folders:
            if path.is_symlink():
                pending.append(path)  # after the folder itself, if both are there
            else:
                pending.appendleft(path)
    return sorted(found) if found or not runs else None


def _identity(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run or a grid of runs, whose pictures are not data."""
    return (folder / "run.json").is_file() or (folder / "grid.json").is_file()
