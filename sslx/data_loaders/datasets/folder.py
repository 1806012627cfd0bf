"""`folder:PATH`: your own images, labelled by the folder they are in or not labelled."""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import attrs
import torch

from sslx.api import ConfigError, DataError, Dataset, Split, option, printable, say
from sslx.data_loaders.datasets.files import BAD_IMAGES, MAX_PIXELS, MEMORY, find, first_size
from sslx.data_loaders.datasets.splitting import halve
from sslx.data_loaders.datasets.suited import suited

_TESTS = ("test", "val")
_MOST_COUNTED = 50_000  # more images than these change nothing that is recommended
_LOOKED_AT = 20  # images until one is found that can be read


class Folder(Dataset):
    """Image files in PNG, JPEG, WebP or any other format that Pillow reads, grey or in colour, of any size.

    PATH/train/CLASS/*, PATH/test/CLASS/*    a given split (`val` instead of `test` works as well)
    PATH/CLASS/*                             every fifth image of each class, in a fixed random order, is for testing
    PATH/train/*, PATH/test/* and PATH/*     the same without labels; only the training images may lack them

    Classes are numbered in alphabetical order of the training set. Every file is read as an image, also in folders of
    folders and behind links, except those whose names begin with a dot, `__MACOSX`, `Thumbs.db` and `desktop.ini` of
    other systems, and the folders of runs. An image
    is resized as a whole, so nothing is cut off; if its size changed, the crops of views are drawn in its original
    height and width.

    Microscopes and satellites record more channels than colours have. With `channels=C` each file has C of them: a
    .npy array (C, H, W) or (H, W, C), a file with C pages, such as a TIFF stack, or one with C bands.

    Views, network and training are by default those that suit the first image and the number of images. A view is a
    crop, mirrored half the time, with other colours if the images have any.
    """

    defaults = suited()

    path: Path = option(help="Folder of the images.")
    size: int | None = option(default=None, gt=0, help="Height and width; by default those of the images, if equal.")
    grey: bool = option(default=False, help="Whether images have one channel instead of three.")
    channels: int | None = option(
        default=None,
        gt=0,
        help="Number of channels that are not colours: of arrays in .npy files, of pages, or of bands.",
    )
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
        if self.channels is not None and (self.grey or self.pages == "all"):
            name = "grey=yes" if self.grey else "pages=all"
            raise ConfigError(f"dataset.{name}: is not for dataset.channels, which counts the pages of a file or is 1")

    def recommended(self) -> Mapping[str, Any]:
        """What suits the size and the number of the images and, if they have no labels, evaluators without these."""
        root = self.path.expanduser().resolve()
        train = root / "train" if (root / "train").is_dir() else root
        try:
            paths = [*islice(filter(None, _walk(train, ())), _MOST_COUNTED)]
            is_labelled = not _content(train)[1]
        except (OSError, DataError):  # loading says what is wrong
            paths = []
        if not paths:
            return self.defaults
        height, width = first_size(paths[:_LOOKED_AT], self.max_pixels, self.channels)
        size, images = self.size or max(height, width), len(paths) if train != root else len(paths) * 4 // 5
        return suited(size, self.channels or (1 if self.grey else 3), images, labelled=is_labelled)

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
            test_split = attrs.evolve(test_split, labels=numbers[test_split.labels], classes=names)
        return train, test_split

    def _read(self, root: Path, report: str) -> tuple[Split, Sequence[str]]:
        """The images below `root` and the names of their classes, which are empty if the images are not labelled."""
        folders, loose = _content(root)
        groups = {path: files for path in folders if (files := _files(path, root)) is not None}
        beside = loose if groups else []
        if beside:
            n, example = len(beside), printable(beside[0].name)
            found = f"{n} file{'s are' if n > 1 else ' is'} next to the class folders, for example {example}"
            if self.bad_images == "fail":
                advice = f"use --bad-images skip (dataset.bad_images=skip) to leave {'them' if n > 1 else 'it'} out"
                raise DataError(f"{_name(root)}: {found}; {advice}")
            say(f"{_name(root)}: {found}, and {'are' if n > 1 else 'is'} skipped")
        paths = [path for group in groups.values() for path in group] if groups else loose
        if not paths:
            raise DataError(f"{_name(root)}: there are no images")
        split, kept = find(
            paths, root, self.size, self.grey, self.bad_images, report, self.memory,
            levels=self.range, pages=self.pages, max_pixels=self.max_pixels, channels=self.channels,
        )  # fmt: skip
        skipped = [*split.skipped, *(f"{path}: next to the class folders" for path in beside)]
        split = attrs.evolve(split, paths=[paths[i] for i in kept.tolist()], skipped=skipped)
        names = [path.name for path in groups]
        if groups:
            labels = torch.tensor([number for number, group in enumerate(groups.values()) for _ in group])[kept]
            counts = labels.bincount(minlength=len(groups))
            if empty := [name for name, n in zip(names, counts.tolist(), strict=True) if n == 0]:
                raise DataError(f"{_name(root)}: classes without an image: {_some(empty)}")
            split = attrs.evolve(split, labels=labels, classes=names)
        return split, names


def _name(path: Path) -> str:
    return printable(str(path))


def _some(names: Iterable[str]) -> str:
    """The first ten names."""
    return printable(", ".join([*names][:10]))


#: What other systems leave among images.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def _content(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the other files in a folder, sorted by name, without those that are hidden or litter."""
    try:
        with os.scandir(folder) as entries:
            visible = [each for each in entries if not each.name.startswith(".") and each.name not in _LITTER]
    except OSError as error:
        raise DataError(f"{_name(folder)} cannot be read: {error.strerror}") from error
    found: tuple[list[Path], list[Path]] = ([], [])
    for each in sorted(visible, key=lambda each: each.name):
        is_folder = os.path.isdir(each) if each.is_symlink() else each.is_dir()  # the first is False for broken links
        found[not is_folder].append(folder / each.name)
    return found


def _files(folder: Path, root: Path) -> list[Path] | None:
    """All files below a folder of `root`, also behind links, sorted by name; None if it holds nothing but runs."""
    found = list(_walk(folder, (root, *root.parents)))
    files = [path for path in found if path is not None]
    return sorted(files) if files or not found else None


def _walk(folder: Path, above: Iterable[Path]) -> Iterator[Path | None]:
    """All files below a folder, also behind links, and None in the place of each run.

    Each folder is read once, and those `above` are not read, so links may form loops.
    """
    seen = {_identity(path) for path in above}
    pending = deque([folder])
    while pending:
        here = pending.popleft()
        if (who := _identity(here)) in seen:
            continue
        seen.add(who)
        if _is_run(here):
            yield None
            continue
        folders, files = _content(here)
        yield from files
        for path in folders:
            if os.path.islink(path):  # False also for a path that is too long
                pending.append(path)  # after the folder itself, if both are there
            else:
                pending.appendleft(path)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        facts = folder.stat()
    except OSError as error:
        raise DataError(f"{_name(folder)} cannot be read: {error.strerror}") from error
    return facts.st_dev, facts.st_ino


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run or a grid of runs, whose pictures are not data."""
    return (folder / "run.json").is_file() or (folder / "grid.json").is_file()
