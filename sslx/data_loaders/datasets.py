"""The small grey datasets: scikit-learn's digits, which need no download, MNIST and Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from sslx.api import Dataset, Split
from sslx.data_loaders.downloads import agreeing, obtain, reading
from sslx.data_loaders.splitting import halve


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
        return halve(Split(images, labels))


class MNIST(Dataset):
    """70 000 handwritten digits of 28x28 pixels (LeCun, Cortes & Burges), in torchvision's layout on disk."""

    defaults = {"train": {"epochs": 20}, "views": {"crop": (0.4, 1.0)}}

    source: ClassVar[str] = "MNIST"  # torchvision's name for the set and its folder

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from torchvision import datasets  # slow to import

        source = getattr(datasets, self.source)
        raw = Path(folder, self.source, "raw")
        files = [raw / Path(name).stem for name, _ in source.resources]
        obtain(self.source, raw, files, lambda: source(folder, download=True), offline)
        return self._read(source, folder, train=True), self._read(source, folder, train=False)

    def _read(self, source: Callable[..., Any], folder: Path, train: bool) -> Split:
        files = Path(folder, self.source, "raw", "train-*" if train else "t10k-*")
        with reading(files):
            half = source(folder, train=train)
        agreeing(files, len(half.data), len(half.targets))
        return Split(half.data[:, None], half.targets)


class FashionMNIST(MNIST):
    """70 000 pictures of clothes of 28x28 pixels (Xiao, Rasul & Vollgraf 2017), in torchvision's layout on disk."""

    defaults = {"train": {"epochs": 20}, "views": {"crop": (0.4, 1.0), "hflip": 0.5}}

    source: ClassVar[str] = "FashionMNIST"
