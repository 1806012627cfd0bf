from pathlib import Path
from typing import ClassVar

from sslx.api import Dataset, Split
from sslx.data_loaders.datasets.downloads import agreeing, obtain, reading


class MNIST(Dataset):
    """70 000 handwritten digits of 28x28 pixels (LeCun, Cortes & Burges), in torchvision's layout on disk."""

    defaults = {"train": {"epochs": 20}, "views": {"crop": (0.4, 1.0)}}

    source: ClassVar[str] = "MNIST"  # torchvision's name of the dataset and its folder

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from torchvision import datasets  # slow to import

        source = getattr(datasets, self.source)
        raw = Path(folder, self.source, "raw")
        files = [raw / Path(name).stem for name, _ in source.resources]
        obtain(self.source, raw, files, lambda: source(folder, download=True), offline)

        def half(train: bool) -> Split:
            files = raw / ("train-*" if train else "t10k-*")
            with reading(files):
                found = source(folder, train=train)
            agreeing(files, len(found.data), len(found.targets))
            return Split(found.data[:, None], found.targets)

        return half(True), half(False)


class FashionMNIST(MNIST):
    """70 000 pictures of clothes of 28x28 pixels (Xiao, Rasul & Vollgraf 2017), in torchvision's layout on disk."""

    defaults = {"train": {"epochs": 20}, "views": {"crop": (0.4, 1.0), "hflip": 0.5}}

    source: ClassVar[str] = "FashionMNIST"
