from pathlib import Path

import torch

from sslx.api import Dataset, Split, Use, key, uniform
from sslx.data_loaders.datasets.mnist import FashionMNIST
from sslx.data_loaders.views.restyle import restyle

_STYLES = 2  # second part of the keys, different from those of `addition` and `points`


class Styled(Dataset):
    """Fashion-MNIST at 0.75 of its size, each image in a known style, to measure how much of it a representation keeps.

    Factors: `rotation` in degrees, counterclockwise, uniform in [-45, 45]; `dx` and `dy` in pixels, to the right and
    down, uniform in [-4, 4]; `brightness`, a factor uniform in [0.4, 1]. They do not depend on the seed of the run.
    """

    defaults = {
        **FashionMNIST.defaults,
        "views": {"use": "restyle"},
        "evaluators": ["knn", "linear", "style"],
    }

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        train, test = FashionMNIST().load(folder, offline)
        return style(train, 0), style(test, 1)


def style(split: Split, half: int) -> Split:
    """The split, each image in a random style."""
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
