import math

import torch
from torch import Tensor

from sslx.api import Use, ViewPolicy, Views, key, option, uniform


class Noise(ViewPolicy):
    """Each view is the image plus normal noise, without any other change, as for points (GEDI, Table 7)."""

    scale: float = option(default=0.03, ge=0, help="Standard deviation of the noise.")

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        """(N, C, H, W) images and their (N,) positions in the dataset -> their views."""
        original = images if images.is_floating_point() else images.float() / 255
        keys = key(Use.VIEWS, seed, epoch, index.cpu()[:, None], torch.arange(self.count))  # (N, J)
        noise = normal(uniform(keys, 2 * images[0].numel()).double()).float()  # (N, J, CHW)
        noise = noise.to(images.device).reshape(len(images), self.count, *images.shape[1:])
        return Views(x=original[:, None] + self.scale * noise, original=original, index=index.to(images.device))


def normal(draws: Tensor) -> Tensor:
    """(..., 2k) uniform numbers -> (..., k) normal numbers, by the Box-Muller transform."""
    first, second = draws.chunk(2, dim=-1)
    return (-2 * (1 - first).log()).sqrt() * (2 * math.pi * second).cos()
