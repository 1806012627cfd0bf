"""`folder:PATH`: your own images, labelled by the folder they are in or not labelled."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs
import torch

from sslx.api import ConfigError, DataError, Dataset, Split, option
from sslx.data_loaders.datasets.files import BAD_IMAGES, MEMORY, find
from sslx.data_loaders.datasets.splitting import halve

_TESTS = ("test", "val")


class Folder(Dataset):
    """Image files in PNG, JPEG, WebP or any other format that Pillow reads, grey or in colour, of any size.

    PATH/train/CLASS/*, PATH/test/CLASS/*    a given split (`val` instead of `test` works as well)
    PATH/CLASS/*                             every fifth image of each class, in a fixed random order, is for testing
    PATH/train/*, PATH/test/* and PATH/*     the same without labels

    Classes are numbered in alphabetical order of the training set. Every file is read as an image, except those whose
    names begin with a dot. An image is resized as a whole, so nothing is cut off; if its size changed, the crops of
    views are drawn in its original height and width.

    By default a view is a crop of 0.4 to 1 of the image, mirrored half the time.
    """

    defaults = {"views": {"crop": (0.4, 1.0), "hflip": 0.5}}  # without any, all views of an image would be identical

    path: Path = option(help="Folder of the images.")
    size: int | None = option(default=None, gt=0, help="Height and width; by default those of the images, if equal.")
    grey: bool = option(default=False, help="Whether images have one channel instead of three.")
    bad_images: Literal["fail", "skip"] = option(default="fail", help=BAD_IMAGES)
    memory: float = option(default=4.0, ge=0, help=MEMORY)

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        root = self.path.expanduser().resolve()
        if not root.is_dir():
            raise ConfigError(f"dataset.path: {root} does not exist or is not a folder")
        report = folder / "bad-images" / f"{re.sub('[^A-Za-z0-9._-]+', '-', str(root)).strip('-')}.txt"
        halves = [root / name for name in ("train", *_TESTS) if (root / name).is_dir()]
        if not halves:
            whole, _ = self._read(root, report)
            return halve(whole)
        if len(halves) != 2 or halves[0].name != "train":
            found = " and ".join(half.name for half in halves)
            raise DataError(f"{root}: has {found}; expected train and one of {', '.join(_TESTS)}, or none of these")
        train, names = self._read(halves[0], report.with_suffix(".train.txt"))
        test_split, others = self._read(halves[1], report.with_suffix(".test.txt"))
        if strange := sorted(set(others) - set(names)):
            raise DataError(f"{halves[1]}: classes that are missing in {halves[0]}: {', '.join(strange[:10])}")
        if (train.labels is None) != (test_split.labels is None):
            raise DataError(f"{root}: only one of train and {halves[1].name} has class folders; both or none need them")
        if train.images.shape[1:] != test_split.images.shape[1:]:
            raise DataError(f"{root}: training and test images differ in size; set dataset.size to resize them")
        if test_split.labels is not None:  # numbered like the training classes
            numbers = torch.tensor([names.index(name) for name in others])
            test_split = attrs.evolve(test_split, labels=numbers[test_split.labels])
        return train, test_split

    def _read(self, root: Path, report: Path) -> tuple[Split, Sequence[str]]:
        """The images below `root` and the names of their classes, which are empty if the images are not labelled."""
        visible = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        classes = [path for path in visible if path.is_dir()]
        loose = [path for path in visible if not path.is_dir()]
        if classes and loose:
            raise DataError(f"{root}: {len(loose)} files are next to the class folders, for example {loose[0].name}")
        groups = [_files(path) for path in classes] if classes else [loose]
        paths = [path for group in groups for path in group]
        if not paths:
            raise DataError(f"{root}: there are no images")
        split, kept = find(paths, root, self.size, self.grey, self.bad_images, report, self.memory)
        split = attrs.evolve(split, paths=[paths[i] for i in kept.tolist()])
        if classes:
            labels = torch.tensor([number for number, group in enumerate(groups) for _ in group])[kept]
            counts = labels.bincount(minlength=len(classes))
            if empty := [path.name for path, n in zip(classes, counts.tolist(), strict=True) if n == 0]:
                raise DataError(f"{root}: classes without an image: {', '.join(empty[:10])}")
            split = attrs.evolve(split, labels=labels)
        return split, [path.name for path in classes]


def _files(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
