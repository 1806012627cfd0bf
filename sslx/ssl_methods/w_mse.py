import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import JointEmbedding, Objective, Term, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class WhitenedMSE(Objective):
    """Distance of views on the unit sphere after whitening (Ermolov et al. 2021, Eq. 5 to 7).

        2 - 2 cos(w, w'), w = L⁻¹(z - z̄), L Lᵀ = Cov(z)

    The mean over all pairs of different views; the covariance is over the images of a view. The whole batch is whitened
    at once; the paper averages over random parts of it. Both need more images than dimensions, as otherwise the
    shrinkage decides; the authors have no shrinkage.
    """

    least_images = 2

    shrinkage: float = option(default=1e-3, gt=0, lt=1, help="Weight of I in (1 - ε) Σ + ε I (ε).")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        w, t = (normalize(self.whiten(x), dim=2) for x in (online, target))
        distance = over_pairs(2 - 2 * w @ t.mT)
        reason = "" if distance.isfinite() else "the covariance of the embeddings cannot be inverted"
        return Terms(distance=Term(distance, minimum=0.0, reason=reason))

    def whiten(self, x: Tensor) -> Tensor:
        """Embeddings (N, J, D) -> the same with covariance I in each view; NaN if that is impossible."""
        z = (x - x.mean(dim=0)).transpose(0, 1)  # (J, N, D)
        I = torch.eye(z.shape[2], device=z.device, dtype=z.dtype)
        covariance = z.mT @ z / max(1, len(x) - 1)
        L, failed = torch.linalg.cholesky_ex((1 - self.shrinkage) * covariance + self.shrinkage * I)
        L = L.masked_fill(failed[:, None, None] > 0, torch.nan)
        return torch.linalg.solve_triangular(L, z.mT, upper=False).permute(2, 0, 1)


class WMSE(JointEmbedding, projector=(), objective="w-mse"):
    """Views agree after the embeddings of the batch have been whitened (Ermolov et al. 2021).

    The representation itself is whitened. The paper has a head of 1024-64 on 512 dimensions. On ten dimensions a head
    can satisfy the loss by itself, and the representation becomes worse than an untrained one.
    """
