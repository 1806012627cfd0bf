from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import torch

from sslx.api import DataError, Dataset, Split, option, printable
from sslx.data_loaders.datasets.downloads import obtain, reading
from sslx.data_loaders.datasets.files import BAD_IMAGES, MEMORY, find
from sslx.data_loaders.datasets.suited import suited

_WIDTH = 178  # width of the aligned images, which are 218 pixels high
_HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald")
_TRAIN, _TEST = 0, 2  # in list_eval_partition.txt; 1, for validation, is not used


class CelebA(Dataset):
    """Aligned faces of celebrities (Liu et al. 2015): 162 770 for training and 19 962 for testing.

    The 40 attributes are factors of 0 and 1, with their names in the file. The central square of an image is resized.
    The files are laid out as by torchvision.
    """

    defaults = {
        **suited(64, images=162_770),
        "views": {"crop": (0.6, 1.0), "hflip": 0.5, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8},
    }

    size: int = option(default=64, gt=0, help="Height and width of the images.")
    label: Literal["gender", "hair"] = option(
        default="gender", help="Labels; for hair only images with exactly one of black, blond, brown, grey and bald."
    )
    bad_images: Literal["fail", "skip"] = option(default="fail", help=BAD_IMAGES)
    memory: float = option(default=4.0, ge=0, help=MEMORY)

    def recommended(self) -> Mapping[str, Any]:
        return {**suited(self.size, images=162_770), "views": self.defaults["views"]}

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        from torchvision.datasets import CelebA as source  # slow to import

        base = folder / source.base_folder
        files = [base / name for name in ("img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt")]
        obtain("CelebA", base, files, lambda: source(folder, download=True), offline)
        where, attribute_file, partition_file = files
        with reading(attribute_file):
            _, header, *rows = attribute_file.read_text().splitlines()
            names = header.split()
            values = np.array([row.split()[1:] for row in rows]).astype(np.int64).reshape(-1, len(names))
            if not np.isin(values, (-1, 1)).all():
                raise ValueError("there are attributes other than 1 and -1")
            attributes = torch.from_numpy(values) > 0
            images = [row.split()[0] for row in rows]
            gender, hair = names.index("Male"), [names.index(name) for name in _HAIR]
        with reading(partition_file):
            pairs = [line.split() for line in partition_file.read_text().splitlines()]
            partition = torch.tensor([int(part) for _, part in pairs])
            if not set(partition.tolist()) <= {0, 1, 2}:
                raise ValueError("there are parts other than 0, 1 and 2")
        if images != [name for name, _ in pairs]:
            lists = printable(str(base / "list_*.txt"))
            raise DataError(f"{lists} contradict each other: they list different images; delete them")
        labels = attributes[:, gender].long()
        listed = torch.ones(len(images), dtype=torch.bool)
        if self.label == "hair":
            labels = attributes[:, hair].long().argmax(dim=1)
            listed = attributes[:, hair].sum(dim=1) == 1

        def half(part: int) -> Split:
            index = ((partition == part) & listed).nonzero().squeeze(1)
            paths = [where / images[i] for i in index.tolist()]
            report = f"celeba.{part}.txt"
            faces, kept = find(paths, where, self.size, False, self.bad_images, report, self.memory, square=_WIDTH)
            factors = dict(zip(names, attributes[index[kept]].long().unbind(dim=1), strict=True))
            return attrs.evolve(faces, labels=labels[index[kept]], factors=factors)

        return half(_TRAIN), half(_TEST)
