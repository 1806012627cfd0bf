"""Points in the plane on two moons or two circles, on which a method can be visualized."""

import math
from pathlib import Path

import attrs
import torch
from torch import Tensor

from sslx.api import Dataset, Split, Use, key, option, uniform
from sslx.data_loaders.views.noise import normal

_POINTS = 3  # second part of the keys, different from those of `addition` and `styled`


class Points(Dataset):
    """Points in the plane as float images of two channels and one pixel, (n, 2, 1, 1).

    A point is at a random place on one of two curves, plus normal noise; the curve is its label. The points do not
    depend on the seed of the run. With `fresh`, point i of a training epoch is a function of (seed, epoch, i), always
    on the same curve; the points for evaluation stay the same.
    """

    defaults = {
        "train": {"epochs": 120, "batch_size": 400},
        "evaluators": ["cluster", "gmm", "knn"],  # neighbours alone tell any two curves apart
        "views": {"use": "noise"},
        "method": {
            "encoder": {"use": "mlp", "hidden": [100, 100], "dim": 16},
            "decoder": {"use": "mlp", "likelihood": {"mean": "linear"}},  # points are not limited to [0, 1]
            "energy": {"use": "sgld", "steps": 1, "step_size": 5e-4, "noise": 0.03, "magnitude": 0.01},
            "clusters": 2,
            "prototypes": 2,
            "prior_weight": 10.0,
        },
    }

    samples: int = option(default=10_000, gt=0, help="Number of training points; a fifth as many are for testing.")
    noise: float = option(default=0.05, ge=0, help="Standard deviation of the noise of a point.")
    fresh: bool = option(default=False, help="Whether each epoch has new points, as in GEDI.")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        train, test = self._split(0, self.samples), self._split(1, max(2, self.samples // 5))
        if self.fresh:
            train = attrs.evolve(train, fresh=lambda seed, epoch: self._draw(self.samples, 0, seed, epoch))
        return train, test

    def _split(self, half: int, n: int) -> Split:
        return Split(self._draw(n, half), torch.arange(n) % 2)

    def _draw(self, n: int, *what: int) -> Tensor:
        draws = uniform(key(Use.DATA, _POINTS, *what, torch.arange(n)), 5).double()
        points = self.curve(torch.arange(n) % 2, draws[:, 0]) + self.noise * normal(draws[:, 1:])
        return points.float()[:, :, None, None]

    def curve(self, label: Tensor, place: Tensor) -> Tensor:
        """(n,) curves, 0 or 1, and places along them from 0 to 1 -> (n, 2) points."""
        raise NotImplementedError


class Moons(Points):
    """Two interleaving half circles, as in scikit-learn's `make_moons`. The label is the moon."""

    defaults = {**Points.defaults, "views": {"use": "noise", "scale": 0.08}}

    def curve(self, label: Tensor, place: Tensor) -> Tensor:
        x, y = (math.pi * place).cos(), (math.pi * place).sin()
        return torch.stack([torch.where(label == 0, x, 1 - x), torch.where(label == 0, y, 0.5 - y)], dim=1)


class Circles(Points):
    """Two concentric circles, as in scikit-learn's `make_circles`. The label is the circle."""

    factor: float = option(default=0.5, gt=0, lt=1, help="Radius of the inner circle; the outer one has radius 1.")

    def curve(self, label: Tensor, place: Tensor) -> Tensor:
        radius = torch.where(label == 0, 1.0, self.factor)
        return torch.stack([radius * (2 * math.pi * place).cos(), radius * (2 * math.pi * place).sin()], dim=1)
