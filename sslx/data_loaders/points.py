"""Two interleaving moons and two circles: points in the plane, to see what a method does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslx.api import Dataset, Split, Use, ViewPolicy, Views, key, option, seed_of, uniform


class Points(Dataset):
    """Points of the plane as images of two channels and one pixel, (n, 2, 1, 1), float: there are no 256 levels."""

    defaults = {"train": {"epochs": 120, "batch_size": 400}, "views": {"use": "noise"}}

    samples: int = option(default=10_000, gt=0, help="points to train on; a fifth as many are for testing")
    noise: float = option(default=0.05, ge=0, help="standard deviation of what is added to a point")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        return self._draw(0, self.samples), self._draw(1, max(2, self.samples // 5))

    def _draw(self, half: int, n: int) -> Split:
        points, labels = self.generate(n, seed_of(Use.DATA, half) % 2**32)
        return Split(torch.from_numpy(points).float()[:, :, None, None], torch.from_numpy(labels).long())

    def generate(self, n: int, seed: int) -> tuple[Any, Any]:
        """(n, 2) points and (n,) labels."""
        raise NotImplementedError


class Moons(Points):
    """scikit-learn's two moons. Label: the moon."""

    defaults = Points.defaults

    def generate(self, n: int, seed: int) -> tuple[Any, Any]:
        from sklearn.datasets import make_moons  # slow to import

        return make_moons(n, noise=self.noise, random_state=seed)


class Circles(Points):
    """scikit-learn's two circles, one within the other. Label: the circle."""

    defaults = Points.defaults

    factor: float = option(default=0.5, gt=0, lt=1, help="radius of the inner circle; that of the outer is 1")

    def generate(self, n: int, seed: int) -> tuple[Any, Any]:
        from sklearn.datasets import make_circles  # slow to import

        return make_circles(n, noise=self.noise, factor=self.factor, random_state=seed)


class Noise(ViewPolicy):
    """Each view is the image plus normal noise, and nothing else: the views of points (GEDI, Table 7)."""

    scale: float = option(default=0.03, ge=0, help="standard deviation of the noise")

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        """(N, C, H, W) images and their (N,) positions in the dataset -> their views."""
        original = images if images.is_floating_point() else images.float() / 255
        draws = uniform(
            key(Use.VIEWS, seed, epoch, index.cpu()[:, None], torch.arange(self.count)), 2 * images[0].numel()
        ).double()  # (N, J, 2CHW)
        first, second = draws.chunk(2, dim=-1)
        normal = (-2 * (1 - first).log()).sqrt() * (2 * math.pi * second).cos()  # Box and Muller
        noise = normal.float().to(images.device).reshape(len(images), self.count, *images.shape[1:])
        return Views(x=original[:, None] + self.scale * noise, original=original, index=index.to(images.device))
