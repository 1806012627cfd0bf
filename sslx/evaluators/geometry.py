"""Measures of collapse of the representation."""

import math
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import DataError, Evaluation, Evaluator, Result, Use, option, permutation
from sslx.evaluators.common import finite

_CHUNK = 1024
_EPSILON = 1e-7  # of RankMe and LiDAR


class Geometry(Evaluator):
    """How the representation of the test images fills its space. No labels are needed.

    Scores:
        rankme: the number of dimensions in use, between 1 and D: exp(-Σₖ pₖ log pₖ) with pₖ = σₖ / ‖σ‖₁ + ε, where σ
            are the singular values of Z (n, D), which is not centred (Garrido et al. 2023, Eq. 1; ε = 1e-7).
        lidar: the number of dimensions that tell images apart in spite of the augmentation, between 1 and D. It is the
            same function of the eigenvalues of Σ_w^(-½) Σ_b Σ_w^(-½). With q views of each of n images by the run's own
            policy, Σ_b is the covariance of the means of the images, and Σ_w the mean covariance of the views of an
            image plus δI, both unbiased (Thilak et al. 2023, LiDAR). Left out if there are fewer than two images.
        alpha: the exponent α of a power law λₖ ∝ k^(-α) through the eigenvalues λ of the covariance of Z (Agrawal et
            al. 2022, α-ReQ). It is fitted to log λ by least squares with weights 1/k. Their best representations have
            an α near 1: with a larger one few dimensions dominate, with a smaller one the noise does. Left out if
            fewer than two eigenvalues are above rounding error.
        alignment: E‖z¹ - z²‖² over two views of each image by the run's own policy, z on the unit sphere
            (Wang & Isola 2020, Eq. 1 with α = 2). It is 0 if the views of an image coincide.
        uniformity: log E exp(-2‖z - z'‖²) over all pairs of clean images, on the unit sphere (their Eq. 2 with t = 2).
            It is 0 if all images coincide.
        variance-min: the smallest variance of a dimension.
        dead: the fraction of dimensions whose variance is below `dead` times the largest one, or is rounding error.
    """

    dead: float = option(default=0.01, ge=0, lt=1, help="Part of the largest variance below which a dimension is dead.")
    images: int = option(default=1000, gt=1, help="Maximum number of test images for LiDAR (n).")
    views: int = option(default=10, gt=1, help="Number of views of each image for LiDAR (q).")
    delta: float = option(default=1e-4, gt=0, help="Variance added to that of the views in each direction (δ).")
    eigenvalues: tuple[int, int] = option(
        default=(6, 100),
        gt=0,
        help="First and last eigenvalue of α-ReQ's fit. Fewer than twice the first: all of them.",
    )

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Result:
        _, z = finite(evaluation)
        z = z.double()
        variance = z.var(dim=0, correction=0)
        rounding = 1e-10 * z.square().mean()  # (1e-5)² of the size: float32 has 1e-7
        first, second = self._views(evaluation, torch.arange(len(z)), 2).unbind(dim=1)
        some = permutation(len(z), Use.EVALUATION, evaluation.seed)[: self.images]
        spectrum = torch.linalg.eigvalsh(z.T.cov(correction=0).reshape(z.shape[1], -1)).flip(0)
        fit = power_law(spectrum[spectrum > rounding], *self.eigenvalues)
        return Result(
            scores={
                "rankme": rankme(z),
                **({"lidar": lidar(self._views(evaluation, some, self.views), self.delta)} if len(z) > 1 else {}),
                **({"alpha": fit["alpha"]} if fit else {}),
                "alignment": (F.normalize(first) - F.normalize(second)).square().sum(dim=1).mean().item(),
                "uniformity": uniformity(F.normalize(z)),
                "variance-min": variance.min().item(),
                "dead": (variance <= torch.maximum(self.dead * variance.max(), rounding)).double().mean().item(),
            },
            protocol={
                "images": len(z),
                "dimensions": z.shape[1],
                "variances": variance.tolist(),
                "lidar": {"images": len(some), "views": self.views, "delta": self.delta, "epsilon": _EPSILON},
                "alpha": fit,
            },
            summary=(
                f"{len(z)} test images; alignment compares two views made as in training, and lidar {self.views} views "
                f"of {len(some)} images; alpha is fitted to {_range(fit)}; "
                f"dead dimensions have less than {self.dead:g} of the largest variance"
            ),
        )

    def _views(self, evaluation: Evaluation, index: Tensor, count: int) -> Tensor:
        """Representations of so many views of each of these test images, (n, count, D)."""
        views: Any = evaluation.views
        policy = attrs.evolve(views, count=count)
        represent = evaluation.method.representations()[evaluation.representation]
        test = evaluation.data[1]
        found = []
        for part in index.split(max(1, 2 * _CHUNK // count)):
            sizes = None if test.sizes is None else test.sizes[part]
            made = policy(test.images[part], part, seed=evaluation.seed, epoch=0, sizes=sizes)
            found.append(made.group(represent(made.flat.to(evaluation.device)).double().cpu()))
        z = torch.cat(found)
        if not z.isfinite().all():
            raise DataError("the representation of a view is not finite. The method has probably diverged")
        return z


def rankme(z: Tensor) -> float:
    """(n, D) -> the effective rank."""
    return effective(torch.linalg.svdvals(z))


def lidar(z: Tensor, delta: float) -> float:
    """(n, q, D), q views of each of n images -> the effective rank of their linear discriminant analysis."""
    n, q, D = z.shape
    means = z.mean(dim=1)  # (n, D)
    within = (z - means[:, None]).flatten(0, 1)
    between = means - means.mean(dim=0)
    scatter = within.T @ within / (n * (q - 1)) + delta * torch.eye(D, dtype=z.dtype)
    # L⁻¹ Σ_b L⁻ᵀ with Σ_w = L Lᵀ has the eigenvalues of Σ_w^(-½) Σ_b Σ_w^(-½).
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(scatter), between.T, upper=False)  # (D, n)
    return effective(torch.linalg.eigvalsh(whitened @ whitened.T / (n - 1)).clamp_min(0))


def effective(spectrum: Tensor) -> float:
    """(k,) non-negative numbers -> exp of the entropy of p = λ / ‖λ‖₁ + ε: how many of them matter."""
    p = spectrum / spectrum.sum().clamp_min(torch.finfo(spectrum.dtype).tiny) + _EPSILON
    return (-(p * p.log()).sum()).exp().item()


def power_law(spectrum: Tensor, first: int, last: int) -> dict[str, float]:
    """Decreasing positive eigenvalues (k,) -> alpha, the eigenvalues it is fitted to, and R² of the fit; or nothing."""
    if len(spectrum) < 2 * first:
        first = 1
    last = min(last, len(spectrum))
    if last <= first:
        return {}
    k = torch.arange(first, last + 1, dtype=spectrum.dtype)
    x, y = k.log(), spectrum[first - 1 : last].log()
    weights = (1 / k) / (1 / k).sum()
    dx, dy = x - (weights * x).sum(), y - (weights * y).sum()
    slope = (weights * dx * dy).sum() / (weights * dx.square()).sum()
    explained = (weights * (slope * dx).square()).sum() / (weights * dy.square()).sum().clamp_min(1e-300)
    return {"alpha": -slope.item(), "first": first, "last": last, "r2": explained.item()}


def _range(fit: dict[str, float]) -> str:
    return f"eigenvalues {fit['first']} to {fit['last']}" if fit else "no eigenvalues, as there are too few"


def uniformity(z: Tensor) -> float:
    """(n, D) unit vectors -> log of the mean of exp(-2‖z - z'‖²) over all pairs."""
    n = len(z)
    if n < 2:
        return 0.0
    total = sum((-2 * torch.cdist(part, z).square()).exp().sum().item() for part in z.split(_CHUNK))
    return math.log((total - n) / (n * (n - 1)))  # the distance of each image to itself is 0
