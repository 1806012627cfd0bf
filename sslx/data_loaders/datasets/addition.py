"""Sums of digits: triples of MNIST images, the third the sum of the first two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sslx.api import ConfigError, Dataset, Split, Use, key, option, permutation, uniform
from sslx.data_loaders.datasets.mnist import MNIST

_SUMS = 1  # the second part of the keys, beside those of `styled` and `points`
_STEPS = 1750  # until digits are learned from sums
_PAIRS = torch.tensor([(a, b) for a in range(10) for b in range(10 - a)])  # the 55 with a + b <= 9


class Addition(Dataset):
    """MNIST digits, of which every third is the sum of the two before it (GEDI, App. N); the three stay together.

    The pair (a, b) is uniform over the 55 with a + b <= 9, and no image is used twice; so the digits are not uniform,
    a zero is 21/165 of them and a nine 12/165. Label: the digit. The test triples are made of MNIST's test images. The
    same triples in every run, whatever its seed.
    """

    defaults = {
        "train": {"batch_size": 60},
        "views": {"crop": (0.7, 1.0)},
        "method": {"energy": {"use": "sgld", "steps": 1, "magnitude": 0.1, "chains": 1000}},  # short chains, held in
    }

    triples: int = option(default=10_000, gt=0, help="training triples; the paper has 100, 1000 and 10 000")
    test_triples: int = option(default=2_000, gt=0, help="test triples")

    def recommended(self) -> Mapping[str, Any]:
        """Epochs for 1750 steps, whatever the number of triples."""
        train = self.defaults["train"]
        epochs = math.ceil(_STEPS * train["batch_size"] / (3 * self.triples))
        return {**self.defaults, "train": {**train, "epochs": epochs}}

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        train, test = MNIST().load(folder, offline)
        return sums(train, self.triples, 0, "triples"), sums(test, self.test_triples, 1, "test_triples")


def sums(digits: Split, n: int, half: int, name: str) -> Split:
    """n triples of the (m, 1, H, W) digits, as (3n, 1, H, W).

    Raises ConfigError, naming the option, if some digit has too few images.
    """
    assert digits.labels is not None
    choice = (uniform(key(Use.DATA, _SUMS, half, torch.arange(n)), 1).squeeze(1) * len(_PAIRS)).long()
    pairs = _PAIRS[choice]
    wanted = torch.cat([pairs, pairs.sum(dim=1, keepdim=True)], dim=1)  # (n, 3)
    order = permutation(len(digits), Use.DATA, _SUMS, half, n)
    index = torch.empty_like(wanted)
    for digit in range(10):
        places, images = wanted == digit, order[digits.labels[order] == digit]
        count = int(places.sum())
        if count > len(images):
            raise ConfigError(f"dataset.{name}: {n} need {count} images of a {digit}, and there are {len(images)}")
        index[places] = images[:count]
    return Split(digits.images[index.flatten()], wanted.flatten(), arity=3)
