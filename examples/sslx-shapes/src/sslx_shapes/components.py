"""Images whose factors of variation are all known, and a score of whether a representation separates them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sslx.api import Dataset, Evaluation, Evaluator, Result, Split, option


class Shapes(Dataset):
    """Grey images of a disc, a square or a diamond. Label: the shape. Factors: its position `x`, `y` and its `size`."""

    defaults = {
        "train": {"epochs": 20},
        "views": {"crop": (0.6, 1.0)},
        "method": {"encoder": {"use": "mlp", "hidden": (128, 128)}, "decoder": {"use": "mlp", "hidden": (128, 128)}},
    }

    samples: int = option(default=3000, gt=0, help="Number of training images; a fifth as many are for testing.")
    side: int = option(default=16, gt=7, help="Height and width of an image, in pixels.")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        return self._split(self.samples, seed=0), self._split(max(30, self.samples // 5), seed=1)

    def _split(self, n: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)  # the same images in every run
        shape = torch.randint(3, (n,), generator=generator)
        x, y, size = torch.rand(3, n, generator=generator)
        x, y, size = 0.3 + 0.4 * x, 0.3 + 0.4 * y, 0.15 + 0.15 * size
        return Split(self.draw(shape, x, y, size), shape, {"x": x, "y": y, "size": size})

    def draw(self, shape: Tensor, x: Tensor, y: Tensor, size: Tensor) -> Tensor:
        """(n,) shapes, positions and sizes in units of the side -> images (n, 1, side, side) uint8."""
        pixel = (torch.arange(self.side) + 0.5) / self.side
        dx = (pixel - x[:, None]).abs()[:, None, :]  # (n, 1, side)
        dy = (pixel - y[:, None]).abs()[:, :, None]  # (n, side, 1)
        distance = torch.stack([(dx.square() + dy.square()).sqrt(), torch.maximum(dx, dy), dx + dy])  # by three norms
        chosen = distance[shape, torch.arange(len(shape))]  # (n, side, side)
        return (255 * (2 * self.side * (size[:, None, None] - chosen)).sigmoid()).round().byte()[:, None]


class MIG(Evaluator):
    """Mutual information gap of the representation of the test images (Chen et al. 2018, Eq. 6).

        1/K Σₖ [max_d I(z_d; vₖ) - second-largest_d I(z_d; vₖ)] / H(vₖ)

    over the K known factors vₖ: 1 if each factor is in exactly one dimension, 0 if none is. Dimensions, and factors
    that are not integers, are cut into `bins` with equal numbers of images.

    Scores:
        mig: the mean over all factors; mig-FACTOR: the gap of each factor.
    """

    best = 1.0

    bins: int = option(default=10, gt=1, help="Number of bins of a dimension, and of a factor that is not an integer.")

    def skip(self, evaluation: Evaluation) -> str:
        if not evaluation.test.factors:
            return "the dataset has no known factors"
        return "" if evaluation.test.z.shape[1] > 1 else "a gap takes two dimensions"

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, factors = evaluation.test.z, evaluation.test.factors
        cells = [self.cut(column) for column in z.T]
        gaps = {}
        for name, values in factors.items():
            v = self.cut(values) if values.is_floating_point() else values.unique(return_inverse=True)[1]
            first, second = torch.stack([information(d, v) for d in cells]).topk(2).values
            gaps[f"mig-{name}"] = ((first - second) / information(v, v).clamp(min=1e-12)).item()
        return Result(
            scores={"mig": sum(gaps.values()) / len(gaps), **gaps},
            protocol={"images": len(z), "dimensions": z.shape[1], "bins": self.bins, "factors": list(factors)},
            summary=f"mutual information gap of {len(gaps)} factors, {len(z)} test images, {self.bins} bins",
        )

    def cut(self, values: Tensor) -> Tensor:
        """(n,) numbers -> the indices of their bins, (n,)."""
        edges = values.double().quantile(torch.linspace(0, 1, self.bins + 1, dtype=torch.float64)[1:-1])
        return torch.bucketize(values.double(), edges)


def information(a: Tensor, b: Tensor) -> Tensor:
    """Mutual information in nats of two discrete variables, from (n,) pairs. With itself it is the entropy."""
    joint = torch.zeros(int(a.max()) + 1, int(b.max()) + 1, dtype=torch.float64)
    joint.index_put_((a, b), torch.ones((), dtype=torch.float64), accumulate=True)
    p = joint / len(a)
    outer = p.sum(dim=1, keepdim=True) * p.sum(dim=0, keepdim=True)
    return torch.where(p > 0, p * (p / outer).log(), 0.0).sum()
