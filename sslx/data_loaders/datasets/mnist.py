from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from sslx.api import Dataset, Split, option
from sslx.data_loaders.datasets.downloads import agreeing, obtain, reading
from sslx.data_loaders.datasets.suited import suited


class MNIST(Dataset):
    """70 000 handwritten digits of 28x28 pixels (LeCun, Cortes & Burges), in torchvision's layout on disk.

    SimVAE binarizes them (TMLR, A.7.2), in its code by a threshold of 0.5 on the images that are evaluated and on the
    views, after the crop: `binarize=true` and `views.binarize=true`.
    """

    defaults = suited(28, channels=1, images=60_000, mirror=False)

    binarize: bool = option(
        default=False, help="Whether pixels of at least half the brightness become white, and all others black."
    )

    source: ClassVar[str] = "MNIST"  # torchvision's name of the dataset and its folder
    classes: ClassVar[Sequence[str]] = ()  # the digits are their own names

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from torchvision import datasets  # slow to import
        from torchvision.datasets.mnist import read_image_file, read_label_file

        source = getattr(datasets, self.source)
        raw = Path(folder, self.source, "raw")
        files = [raw / Path(name).stem for name, _ in source.resources]
        obtain(self.source, raw, files, lambda: source(folder, download=True), offline)

        def half(prefix: str) -> Split:
            with reading(raw / f"{prefix}-*"):
                images = read_image_file(str(raw / f"{prefix}-images-idx3-ubyte"))
                labels = read_label_file(str(raw / f"{prefix}-labels-idx1-ubyte"))
                if images.shape[1:] != (28, 28):
                    raise ValueError(f"expected images of 28x28 pixels, got {'x'.join(map(str, images.shape[1:]))}")
            agreeing(raw / f"{prefix}-*", len(images), labels, classes=10)
            if self.binarize:
                images = (images >= 128).to(torch.uint8) * 255
            return Split(images[:, None], labels, classes=self.classes)

        return half("train"), half("t10k")


class FashionMNIST(MNIST):
    """70 000 pictures of clothes of 28x28 pixels (Xiao, Rasul & Vollgraf 2017), in torchvision's layout on disk."""

    defaults = suited(28, channels=1, images=60_000)

    source: ClassVar[str] = "FashionMNIST"
    classes: ClassVar[Sequence[str]] = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
