"""W-MSE."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import JointEmbedding, Objective, Term, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class WhitenedMSE(Objective):
    """2 - 2 cos(w, w'), w = L⁻¹(z - z̄), L Lᵀ the covariance over images of a view (Ermolov et al. 2021, Eq. 5 to 7).

    The mean over all pairs of different views. The whole batch is whitened at once; the paper averages over random
    parts of it. Either needs more images than dimensions, or the shrinkage does the work.
    """

    shrinkage: float = option(
        default=1e-3, gt=0, lt=1, help="ε: whiten (1 - ε) Σ + ε I; the authors have 0, which fails for N <= D"
    )

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        w, t = (normalize(self.whiten(x), dim=2) for x in (online, target))
        return Terms(distance=Term(over_pairs(2 - 2 * w @ t.mT), minimum=0.0))

    def whiten(self, x: Tensor) -> Tensor:
        """(N, J, D) -> the same, of covariance I in each view."""
        z = (x - x.mean(dim=0)).transpose(0, 1)  # (J, N, D)
        I = torch.eye(z.shape[2], device=z.device, dtype=z.dtype)
        covariance = z.mT @ z / max(1, len(x) - 1)
        L = torch.linalg.cholesky((1 - self.shrinkage) * covariance + self.shrinkage * I)
        return torch.linalg.solve_triangular(L, z.mT, upper=False).permute(2, 0, 1)


class WMSE(JointEmbedding, projector=(), objective="w-mse"):
    """Views agree after the batch has been whitened (Ermolov et al. 2021).

    The representation itself is whitened. The paper has a head of 1024-64 on 512 dimensions; on one of ten dimensions
    a head satisfies the loss alone, and the representation gets worse than an untrained one.
    """
