"""Sums of digits: triples of MNIST images, of which the third is the sum of the first two."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sslx.api import ConfigError, Dataset, Split, Use, key, option, permutation, uniform
from sslx.data_loaders.datasets.mnist import MNIST

_SUMS = 1  # second part of the keys, different from those of `styled` and `points`
_STEPS = 1750  # until digits have been learned from sums
_PAIRS = torch.tensor([(a, b) for a in range(10) for b in range(10 - a)])  # the 55 with a + b <= 9


class Addition(Dataset):
    """MNIST digits, of which every third is the sum of the two before it (GEDI, App. N); the three stay together.

    The pair (a, b) is uniform over the 55 pairs with a + b <= 9, and no image is used twice. So the digits are not
    uniform: 21/165 of them are zeros and 12/165 are nines. The label is the digit. Test triples consist of MNIST's test
    images. The triples do not depend on the seed of the run.
    """

    defaults = {
        "train": {"batch_size": 60},
        "views": {"crop": (0.7, 1.0)},
        # The chains are short and kept bounded by the magnitude penalty.
        "method": {"energy": {"use": "sgld", "steps": 1, "magnitude": 0.1, "chains": 1000}},
    }

    triples: int = option(default=10_000, gt=0, help="Number of training triples; 100, 1000 or 10 000 in the paper.")
    test_triples: int = option(default=2_000, gt=0, help="Number of test triples.")

    def recommended(self) -> Mapping[str, Any]:
        """The epochs that 1750 steps take, which depend on the number of triples."""
        train = self.defaults["train"]
        epochs = math.ceil(_STEPS * train["batch_size"] / (3 * self.triples))
        return {**self.defaults, "train": {**train, "epochs": epochs}}

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        train, test = MNIST().load(folder, offline)
        return sums(train, self.triples, 0, "triples"), sums(test, self.test_triples, 1, "test_triples")


def sums(digits: Split, n: int, half: int, name: str) -> Split:
    """n triples of (m, 1, H, W) digits, as (3n, 1, H, W).

    Raises ConfigError, which names the option, if a digit has too few images.
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
            raise ConfigError(f"dataset.{name}: {n} need {count} images of a {digit}, but there are {len(images)}")
        index[places] = images[:count]
    return Split(digits.images[index.flatten()], wanted.flatten(), arity=3)
