"""Measures of collapse of the representation."""

import math
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import DataError, Evaluation, Evaluator, Result, option
from sslx.evaluators.common import finite

_CHUNK = 1024


class Geometry(Evaluator):
    """How the representation of the test images fills its space. No labels are needed.

    Scores:
        rankme: the number of dimensions in use, between 1 and D: exp(-Σₖ pₖ log pₖ) with pₖ = σₖ / ‖σ‖₁ + ε, where σ
            are the singular values of Z (n, D), which is not centred (Garrido et al. 2023, Eq. 1; ε = 1e-7).
        alignment: E‖z¹ - z²‖² over two views of each image by the run's own policy, z on the unit sphere
            (Wang & Isola 2020, Eq. 1 with α = 2). It is 0 if the views of an image coincide.
        uniformity: log E exp(-2‖z - z'‖²) over all pairs of clean images, on the unit sphere (their Eq. 2 with t = 2).
            It is 0 if all images coincide.
        variance-min: the smallest variance of a dimension.
        dead: the fraction of dimensions whose variance is below `dead` times the largest one, or is rounding error.
    """

    dead: float = option(default=0.01, ge=0, lt=1, help="Part of the largest variance below which a dimension is dead.")

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Result:
        _, z = finite(evaluation)
        z = z.double()
        variance = z.var(dim=0, correction=0)
        rounding = 1e-10 * z.square().mean()  # (1e-5)² of the size: float32 has 1e-7
        first, second = self._views(evaluation)
        return Result(
            scores={
                "rankme": rankme(z),
                "alignment": (F.normalize(first) - F.normalize(second)).square().sum(dim=1).mean().item(),
                "uniformity": uniformity(F.normalize(z)),
                "variance-min": variance.min().item(),
                "dead": (variance <= torch.maximum(self.dead * variance.max(), rounding)).double().mean().item(),
            },
            protocol={"images": len(z), "dimensions": z.shape[1], "variances": variance.tolist()},
            summary=(
                f"{len(z)} test images, {z.shape[1]} dimensions; alignment compares two views made as in training; "
                f"dead dimensions have less than {self.dead:g} of the largest variance"
            ),
        )

    def _views(self, evaluation: Evaluation) -> tuple[Tensor, Tensor]:
        """Representations of two views of each test image, (n, D) each."""
        views: Any = evaluation.views
        policy = attrs.evolve(views, count=2)
        test = evaluation.data[1]
        found = []
        for index in torch.arange(len(test)).split(_CHUNK):
            sizes = None if test.sizes is None else test.sizes[index]
            pairs = policy(test.images[index], index, seed=evaluation.seed, epoch=0, sizes=sizes)
            found.append(pairs.group(evaluation.method.represent(pairs.flat.to(evaluation.device)).double().cpu()))
        z = torch.cat(found)  # (n, 2, D)
        if not z.isfinite().all():
            raise DataError("the representation of a view is not finite. The method has probably diverged")
        return z[:, 0], z[:, 1]


def rankme(z: Tensor, epsilon: float = 1e-7) -> float:
    """(n, D) -> the effective rank."""
    sigma = torch.linalg.svdvals(z)
    p = sigma / sigma.sum().clamp_min(torch.finfo(z.dtype).tiny) + epsilon
    return (-(p * p.log()).sum()).exp().item()


def uniformity(z: Tensor) -> float:
    """(n, D) unit vectors -> log of the mean of exp(-2‖z - z'‖²) over all pairs."""
    n = len(z)
    if n < 2:
        return 0.0
    total = sum((-2 * torch.cdist(part, z).square()).exp().sum().item() for part in z.split(_CHUNK))
    return math.log((total - n) / (n * (n - 1)))  # the distance of each image to itself is 0
