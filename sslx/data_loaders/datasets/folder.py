"""`folder:PATH`: anyone's images, labelled by the folder they are in, or not labelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs
import torch
from torch import Tensor

from sslx.api import ConfigError, DataError, Dataset, Split, option
from sslx.data_loaders.datasets.files import MEMORY, find
from sslx.data_loaders.datasets.splitting import halve

_TESTS = ("test", "val")


class Folder(Dataset):
    """Images in files: PNG, JPEG, WebP and whatever else Pillow reads, grey or in colour, of any size.

    PATH/train/CLASS/*, PATH/test/CLASS/*    the split is yours (`val` for `test` as well)
    PATH/CLASS/*                             every fifth image of each class, in a fixed random order, is for testing
    PATH/train/*, PATH/test/* and PATH/*     the same without labels

    Classes are numbered in alphabetical order of the training set. Every file is taken for an image, but those whose
    name begins with a dot. An image is resized as a whole, so nothing is lost; where that was needed, the crops of
    views are drawn in its own height and width.

    Unless you say otherwise, a view is a crop of 0.4 to 1 of the image, mirrored half the time.
    """

    defaults = {"views": {"crop": (0.4, 1.0), "hflip": 0.5}}  # of whatever images: without any, views are identical

    path: Path = option(help="the folder")
    size: int | None = option(default=None, gt=0, help="height and width; none: the images' own, if all agree")
    grey: bool = option(default=False, help="one channel instead of three")
    bad_images: Literal["fail", "skip"] = option(
        default="fail", help="skip: leave out files that are no images or cut short, and write a list of them"
    )

    memory: float = option(default=4.0, ge=0, help=MEMORY)

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        root = self.path.expanduser().resolve()
        if not root.is_dir():
            raise ConfigError(f"dataset.path: {root} is no folder")
        report = folder / "bad-images" / f"{re.sub('[^A-Za-z0-9._-]+', '-', str(root)).strip('-')}.txt"
        halves = [root / name for name in ("train", *_TESTS) if (root / name).is_dir()]
        if not halves:
            whole, _ = self._read(root, report)
            return halve(whole)
        if len(halves) != 2 or halves[0].name != "train":
            found = " and ".join(half.name for half in halves)
            raise DataError(f"{root}: has {found}; expected train and one of {', '.join(_TESTS)}, or none of them")
        train, names = self._read(halves[0], report.with_suffix(".train.txt"))
        test_split, others = self._read(halves[1], report.with_suffix(".test.txt"))
        if strange := sorted(set(others) - set(names)):
            raise DataError(f"{halves[1]}: classes that {halves[0]} does not have: {', '.join(strange[:10])}")
        if (train.labels is None) != (test_split.labels is None):
            raise DataError(f"{root}: one of train and {halves[1].name} has a folder for each class, the other has not")
        if train.images.shape[1:] != test_split.images.shape[1:]:
            raise DataError(f"{root}: training and test images differ in size; set dataset.size to make them one")
        if test_split.labels is not None:  # numbered as the training classes are
            numbers = torch.tensor([names.index(name) for name in others])
            test_split = attrs.evolve(test_split, labels=numbers[test_split.labels])
        return train, test_split

    def _read(self, root: Path, report: Path) -> tuple[Split, Sequence[str]]:
        """Images below `root` and the names of their classes; no names if they are not labelled."""
        visible = sorted(path for path in root.iterdir() if not path.name.startswith("."))
        classes = [path for path in visible if path.is_dir()]
        loose = [path for path in visible if not path.is_dir()]
        if classes and loose:
            raise DataError(f"{root}: {len(loose)} files lie beside the folders of classes, {loose[0].name} for one")
        groups = [_files(path) for path in classes] if classes else [loose]
        paths = [path for group in groups for path in group]
        if not paths:
            raise DataError(f"{root}: there are no images")
        found = find(paths, root, self.size, self.grey, self.bad_images, report, self.memory)
        labels: Tensor | None = None
        if classes:
            labels = torch.tensor([number for number, group in enumerate(groups) for _ in group])[found.kept]
            counts = labels.bincount(minlength=len(classes))
            if empty := [path.name for path, n in zip(classes, counts.tolist(), strict=True) if n == 0]:
                raise DataError(f"{root}: classes without an image: {', '.join(empty[:10])}")
        kept = [paths[i] for i in found.kept.tolist()]
        split = Split(found.images, labels, sizes=found.sizes, skipped=found.skipped, paths=kept)
        return split, [path.name for path in classes]


def _files(folder: Path) -> list[Path]:
    """All files below a folder, hidden ones left out, in an order that depends on their names alone."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
