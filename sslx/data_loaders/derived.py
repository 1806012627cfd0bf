"""Datasets made of MNIST and Fashion-MNIST: sums of digits, and clothes in a known style."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import ConfigError, Dataset, Split, Use, ViewPolicy, Views, key, option, permutation, uniform
from sslx.data_loaders.datasets import MNIST, FashionMNIST

_PAIRS = torch.tensor([(a, b) for a in range(10) for b in range(10 - a)])  # the 55 with a + b <= 9

# The second part of the keys: what the numbers are for.
_SUMS, _STYLES = 1, 2
_STEPS = 1750  # until digits are learned from sums


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


class Styled(Dataset):
    """Fashion-MNIST at 0.75 of its size, each image in a style that is known: what a representation keeps of it?

    Factors: `rotation` in degrees, counterclockwise, uniform in [-45, 45]; `dx` and `dy` in pixels, to the right and
    down, uniform in [-4, 4]; `brightness`, a factor uniform in [0.4, 1]. The same in every run, whatever its seed.
    """

    defaults = {"train": {"epochs": 20}, "views": {"use": "restyle"}}

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        train, test = FashionMNIST().load(folder, offline)
        return style(train, 0), style(test, 1)


class Restyle(ViewPolicy):
    """Each view is the image in another style, on black: turned, moved and darkened by random amounts.

    They come on top of the image's own: what views agree in tells little of its style, and less for wider ranges.
    """

    rotation: float = option(default=45.0, ge=0, le=180, help="v: the angle in degrees is uniform in [-v, v]")
    shift: float = option(default=4.0, ge=0, help="v: shifts in pixels, to the right and down, are uniform in [-v, v]")
    brightness: float = option(default=0.4, ge=0, le=1, help="v: the factor is uniform in [v, 1]")

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        """(N, C, H, W) uint8 images and their (N,) positions in the dataset -> their views."""
        draws = uniform(key(Use.VIEWS, seed, epoch, index.cpu()[:, None], torch.arange(self.count)), 4)  # (N, J, 4)
        low = torch.tensor([-self.rotation, -self.shift, -self.shift, self.brightness])
        high = torch.tensor([self.rotation, self.shift, self.shift, 1.0])
        rotation, dx, dy, brightness = (low + (high - low) * draws).flatten(0, 1).to(images.device).unbind(dim=1)
        x = restyle(images.repeat_interleave(self.count, dim=0), rotation, dx, dy, brightness, scale=1.0)
        original = images.float() / 255
        return Views(x=x.unflatten(0, (-1, self.count)).float() / 255, original=original, index=index.to(images.device))


def style(split: Split, half: int) -> Split:
    """The split in a style drawn for each image."""
    draws = uniform(key(Use.DATA, _STYLES, half, torch.arange(len(split))), 4)
    low, high = torch.tensor([-45, -4, -4, 0.4]), torch.tensor([45, 4, 4, 1.0])
    rotation, dx, dy, brightness = (low + (high - low) * draws).unbind(dim=1)
    images = torch.cat(
        [
            restyle(split.images[index], rotation[index], dx[index], dy[index], brightness[index])
            for index in torch.arange(len(split)).split(4096)
        ]
    )
    factors = {"rotation": rotation, "dx": dx, "dy": dy, "brightness": brightness}
    return Split(images, split.labels, {**split.factors, **factors})


def restyle(
    images: Tensor, rotation: Tensor, dx: Tensor, dy: Tensor, brightness: Tensor, scale: float = 0.75
) -> Tensor:
    """(n, C, S, S) uint8 -> the same shrunk about the centre, rotated, shifted and darkened, on black.

    Args:
        rotation: degrees counterclockwise, (n,).
        dx, dy: pixels to the right and down, (n,).
        brightness: factor, (n,).
    """
    angle = rotation * (math.pi / 180)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    x, y = (shift * (-2 / images.shape[-1]) for shift in (dx, dy))
    # affine_grid takes where each new pixel comes from: the inverse, in units of half the image.
    rows = torch.stack([cos, -sin, cos * x - sin * y, sin, cos, sin * x + cos * y], dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, align_corners=False)
    return (moved * brightness[:, None, None, None]).round().clamp(0, 255).to(torch.uint8)
