import torch
from torch import Tensor

from sslx.api import JointEmbedding, Objective, Term, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class VICRegLoss(Objective):
    """Distance of two views, with penalties on small variances and on covariances (Bardes et al. 2022, Eq. 6).

        λ s(Z, Z') + μ [v(Z) + v(Z')] + ν [c(Z) + c(Z')], the mean over pairs of views
        s = mean (z - z')²,  v = 1/D Σ_d max(0, 1 - √(Var z_d + ε)),  c = 1/D Σ_{d≠e} Cov(z_d, z_e)²

    The authors' code halves v; GEDI's Appendix H prints ε outside the root and sums over d, which are misprints.
    """

    least_images = 2

    invariance: float = option(default=25.0, ge=0, help="Weight of the invariance term (λ).")
    variance: float = option(default=25.0, ge=0, help="Weight of the variance term (μ).")
    covariance: float = option(default=1.0, ge=0, help="Weight of the covariance term (ν).")
    epsilon: float = option(default=1e-4, gt=0, help="Added to the variance under the root (ε).")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        N, _, D = online.shape
        s = over_pairs((online[:, :, None] - target[:, None]).square().mean(dim=3))
        z = online - online.mean(dim=0)
        cov = torch.einsum("njd,nje->jde", z, z) / max(1, N - 1)  # (V, D, D)
        var = cov.diagonal(dim1=1, dim2=2)  # (V, D)
        v = (1 - (var + self.epsilon).sqrt()).relu().mean()
        c = (cov.square().sum(dim=(1, 2)) - var.square().sum(dim=1)).mean() / D
        return Terms(
            invariance=Term(s, weight=self.invariance, minimum=0.0),
            variance=Term(2 * v, weight=self.variance, minimum=0.0),
            covariance=Term(2 * c, weight=self.covariance, minimum=0.0),
        )


class VICReg(JointEmbedding, objective="vicreg"):
    """Views agree, each dimension varies over images and no two dimensions are correlated (Bardes et al. 2022)."""
