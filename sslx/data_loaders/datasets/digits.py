from pathlib import Path

import torch

from sslx.api import Dataset, Split
from sslx.data_loaders.datasets.splitting import halve


class Digits(Dataset):
    """1797 real handwritten digits of 8x8 pixels, part of scikit-learn (UCI, Alpaydin & Kaynak 1998).

    The values 0 to 16 are scaled to 0 to 255. scikit-learn has no test set, so every fifth image of each class, in a
    fixed random order, is for testing: 1437 training and 360 test images, the same ones for every seed.
    """

    # For 64 pixels the layers of SimVAE's Table 3 are too large: much slower and less accurate.
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
