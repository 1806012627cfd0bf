"""Images that stand in for those of another dataset, where only the commands are tried."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sslx.api import Dataset, Split, Use, key, option, uniform

_STAND_IN = 4  # second part of the keys, different from those of `addition`, `styled` and `points`
_GRID = 4  # pixels of a pattern, before it is enlarged


class StandIn(Dataset):
    """Random patterns in the shape of another dataset's images, to try commands without its files.

    An image is the pattern of its class, half covered by noise, and does not depend on the seed of the run. Scores say
    nothing about a method. With attributes, images have the factors `attribute-0`, `attribute-1`, ..., each 0 or 1.
    """

    size: int = option(default=32, gt=0, help="Height and width of an image in pixels.")
    grey: bool = option(default=False, help="Whether images have one channel instead of three.")
    classes: int = option(default=10, gt=0, help="Number of classes, which are equally frequent.")
    samples: int = option(default=256, gt=0, help="Number of training images.")
    test_samples: int = option(default=128, gt=0, help="Number of test images.")
    attributes: int = option(default=0, ge=0, help="Number of further binary labels of each image.")
    variant: int = option(default=0, ge=0, help="Number of the set; another number gives other patterns.")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        return self._split(0, self.samples), self._split(1, self.test_samples)

    def _split(self, half: int, n: int) -> Split:
        labels = torch.arange(n) % self.classes
        patterns = self._draw((0,), self.classes, _GRID)[labels]
        patterns = interpolate(patterns, size=(self.size, self.size), mode="bilinear", align_corners=False)
        images = (patterns + self._draw((1, half), n, self.size)).div(2).mul(255).round().to(torch.uint8)
        bits = uniform(key(Use.DATA, _STAND_IN, self.variant, 2, half, torch.arange(n)), max(1, self.attributes)) < 0.5
        return Split(images, labels, factors={f"attribute-{i}": bits[:, i].long() for i in range(self.attributes)})

    def _draw(self, what: tuple[int, ...], n: int, size: int) -> Tensor:
        """Uniform numbers, (n, C, size, size)."""
        channels = 1 if self.grey else 3
        draws = uniform(key(Use.DATA, _STAND_IN, self.variant, *what, torch.arange(n)), channels * size * size)
        return draws.float().reshape(n, channels, size, size)
