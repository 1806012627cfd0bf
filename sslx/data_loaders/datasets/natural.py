"""Small natural images: CIFAR-10, CIFAR-100, SVHN and STL-10, with files as torchvision lays them out."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslx.api import Dataset, Split, option
from sslx.data_loaders.datasets.downloads import agreeing, obtain, reading
from sslx.data_loaders.datasets.suited import suited

#: The functions and classes that a pickled array names. Those of numpy 1 and numpy 2 are in different modules.
_ARRAY_PARTS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists and arrays only, because a pickle can call any function that it names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_PARTS:
            raise pickle.UnpicklingError(f"it uses {module}.{name}, which image data do not need")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _integers(values: Any, most: int) -> NDArray[np.int64]:
    """Whole numbers up to ±`most`, and not texts or fractions, which a cast would change silently."""
    found = np.asarray(values)
    if found.dtype.kind not in "iu" or (found.size and (found.min() < -most or found.max() > most)):
        raise ValueError(f"expected integers of at most {most}, got {found.dtype} of {found.shape}")
    return found.astype(np.int64)


class CIFAR10(Dataset):
    """60 000 photographs of 32x32 pixels in 10 classes (Krizhevsky 2009)."""

    defaults = suited(32)

    source: ClassVar[str] = "CIFAR10"  # torchvision's name
    batches: ClassVar[tuple[Sequence[str], Sequence[str]]] = ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"])
    #: Keys of the label, and of a coarser one if there is one, with their numbers of classes.
    labels: ClassVar[Mapping[str, int]] = {"labels": 10}
    classes: ClassVar[Sequence[str]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from torchvision import datasets  # slow to import
        from torchvision.datasets.utils import download_and_extract_archive

        source = getattr(datasets, self.source)
        base = folder / source.base_folder

        def download() -> None:  # not by torchvision's class, which would execute the pickles
            download_and_extract_archive(source.url, folder, filename=source.filename, md5=source.tgz_md5)

        train, test = ([base / name for name in names] for names in self.batches)
        obtain(self.source, base, [*train, *test], download, offline)
        return self._read(train), self._read(test)

    def _read(self, files: Sequence[Path]) -> Split:
        parts = [self._batch(file) for file in files]
        images, labels, *coarse = (torch.cat(column) for column in zip(*parts, strict=True))
        return Split(images, labels, {"coarse": coarse[0]} if coarse else {}, classes=self.classes)

    def _batch(self, file: Path) -> list[Tensor]:
        with reading(file), open(file, "rb") as stream:
            content = _ArrayUnpickler(stream, encoding="latin1").load()
            images = torch.from_numpy(_integers(content["data"], 255).astype(np.uint8)).reshape(-1, 3, 32, 32)
            labels = [torch.from_numpy(_integers(content[name], 1 << 31)).flatten() for name in self.labels]
        for column, classes in zip(labels, self.labels.values(), strict=True):
            agreeing(file, len(images), column, classes)
        return [images, *labels]


class CIFAR100(CIFAR10):
    """60 000 photographs of 32x32 pixels in 100 classes, with their 20 superclasses as the factor `coarse`."""

    source: ClassVar[str] = "CIFAR100"
    batches: ClassVar[tuple[Sequence[str], Sequence[str]]] = (["train"], ["test"])
    labels: ClassVar[Mapping[str, int]] = {"fine_labels": 100, "coarse_labels": 20}
    classes: ClassVar[Sequence[str]] = ()  # their names are in a file of their own


class SVHN(Dataset):
    """99 289 house numbers of 32x32 pixels, cropped to a digit (Netzer et al. 2011), without the `extra` part."""

    defaults = suited(32, images=73_257, mirror=False)

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from torchvision.datasets import SVHN as source  # slow to import

        def download() -> None:
            for half in ("train", "test"):
                source(folder, half, download=True)

        files = [folder / f"{half}_32x32.mat" for half in ("train", "test")]
        obtain("SVHN", folder, files, download, offline)
        return self._read(files[0]), self._read(files[1])

    def _read(self, file: Path) -> Split:
        from scipy.io import loadmat  # slow to import

        with reading(file):
            content = loadmat(file)
            images = torch.from_numpy(content["X"].transpose(3, 2, 0, 1).copy())  # from (H, W, C, n)
            if images.dtype != torch.uint8 or images.shape[1:] != (3, 32, 32):
                found = f"{content['X'].dtype} of {content['X'].shape}"
                raise ValueError(f"expected images as (32, 32, 3, n) uint8, got {found}")
            labels = torch.from_numpy(_integers(content["y"], 1 << 31).squeeze(1))
        agreeing(file, len(images), labels, classes=11)
        return Split(images, labels % 10)  # label 10 is the zero


class STL10(Dataset):
    """Photographs of 96x96 pixels (Coates, Ng & Lee 2011): 5000 + 8000 in 10 classes, and 100 000 without labels.

    With `part=unlabelled` the training set consists of the 100 000 images without labels. Evaluators that need training
    labels, such as a linear probe, are then skipped.
    """

    defaults = suited(96, images=5_000)

    part: Literal["labelled", "unlabelled"] = option(default="labelled", help="Part of STL-10 that is trained on.")

    def recommended(self) -> Mapping[str, Any]:
        return self.defaults if self.part == "labelled" else suited(96, images=100_000, labelled=False)

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from torchvision.datasets import STL10 as source  # slow to import

        base = folder / source.base_folder
        names = ["train_X", "train_y", "test_X", "test_y", "unlabeled_X"]
        obtain("STL10", base, [base / f"{name}.bin" for name in names], lambda: source(folder, download=True), offline)
        train = self._read(base, "train") if self.part == "labelled" else Split(self._images(base / "unlabeled_X.bin"))
        return train, self._read(base, "test")

    def _images(self, file: Path) -> Tensor:
        with reading(file):
            columns = np.fromfile(file, dtype=np.uint8).reshape(-1, 3, 96, 96)
            return torch.from_numpy(columns).transpose(2, 3).contiguous()  # the file stores images column by column

    def _read(self, base: Path, half: str) -> Split:
        images, file = self._images(base / f"{half}_X.bin"), base / f"{half}_y.bin"
        with reading(file):
            labels = torch.from_numpy(np.fromfile(file, dtype=np.uint8).astype(np.int64)) - 1  # from 1 to 10
        agreeing(base / f"{half}_*.bin", len(images), labels, classes=10)
        names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
        return Split(images, labels, classes=names)
