"""Datasets: scikit-learn's digits, which need no download, and those that torchvision reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from sslx.api import DataError, Dataset, Split, Use, permutation


class Digits(Dataset):
    """1797 real handwritten digits of 8x8 pixels, embedded in scikit-learn (UCI, Alpaydin & Kaynak 1998).

    The values 0 to 16 become 0 to 255. scikit-learn has no test set, so every fifth image of each class, in a fixed
    random order, is the test set: 1437 training and 360 test images, the same in every run whatever its seed.
    """

    # For 64 pixels the layers of SimVAE's Table 3 are too many: slower by far, and less accurate.
    defaults = {
        "train": {"epochs": 80},
        "views": {"crop": (0.6, 1.0)},
        "method": {"encoder": {"use": "mlp", "hidden": (256, 256)}, "decoder": {"use": "mlp", "hidden": (256, 256)}},
    }

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from sklearn.datasets import load_digits  # slow to import

        pixels, digits = load_digits(return_X_y=True)
        images = (torch.from_numpy(pixels) * 255 / 16).round().to(torch.uint8).reshape(-1, 1, 8, 8)
        labels = torch.from_numpy(digits).long()
        order = permutation(len(labels), Use.SUBSET, 0)
        by_class = order[labels[order].argsort(stable=True)]
        test = torch.zeros(len(labels), dtype=torch.bool)
        test[by_class[::5]] = True
        whole = Split(images, labels)
        return whole.take(~test), whole.take(test)


class MNIST(Dataset):
    """70 000 handwritten digits of 28x28 pixels (LeCun, Cortes & Burges), in torchvision's layout on disk."""

    defaults = {"train": {"epochs": 20}, "views": {"crop": (0.4, 1.0)}}

    source: ClassVar[str] = "MNIST"  # torchvision's name for the set and its folder

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from torchvision import datasets  # slow to import

        source = getattr(datasets, self.source)
        raw = Path(folder, self.source, "raw")
        if not all((raw / Path(name).stem).is_file() for name, _ in source.resources):
            if offline:
                raise DataError(
                    f"{self.source} is not in {raw}: choose another folder with --data-dir or SSLX_DATA, "
                    "or leave out --offline to download it"
                )
            self._download(source, folder)
        return self._read(source, folder, train=True), self._read(source, folder, train=False)

    def _download(self, source: Callable[..., Any], folder: Path) -> None:
        try:
            source(folder, download=True)
        except Exception as error:  # no network, a mirror that is gone, a wrong checksum, a folder that is read-only
            raise DataError(
                f"{self.source} could not be downloaded to {folder} ({' '.join(str(error).split())}); "
                "--data-dir or SSLX_DATA choose a folder that has it"
            ) from error

    def _read(self, source: Callable[..., Any], folder: Path, train: bool) -> Split:
        files = Path(folder, self.source, "raw", "train-*" if train else "t10k-*")
        try:
            half = source(folder, train=train)
        except Exception as error:  # torchvision has as many kinds as there are ways to damage a file
            raise DataError(f"{files} cannot be read: delete these files to download them again") from error
        images, labels = half.data, half.targets
        if len(images) != len(labels):
            raise DataError(f"{files} contradict each other: {len(images)} images, {len(labels)} labels")
        return Split(images[:, None], labels)


class FashionMNIST(MNIST):
    """70 000 pictures of clothes of 28x28 pixels (Xiao, Rasul & Vollgraf 2017), in torchvision's layout on disk."""

    defaults = {"train": {"epochs": 20}, "views": {"crop": (0.4, 1.0), "hflip": 0.5}}

    source: ClassVar[str] = "FashionMNIST"
