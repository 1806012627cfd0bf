import torch
from torch import Tensor

from sslx.api import JointEmbedding, Objective, Term, Terms, option


class BarlowTwinsLoss(Objective):
    """Distance of the correlation C between two views from the identity (Zbontar et al. 2021, Eq. 1).

        Σ_d (1 - C_dd)² + λ Σ_{d≠e} C_de²

    C is over images, and the loss is the mean over all pairs of different views. GEDI's Appendix H has λ inside the
    square: use λ² for it.
    """

    least_images = 2

    redundancy: float = option(default=0.005, ge=0, help="Weight of the terms off the diagonal (λ).")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        z, t = (_standardized(x) for x in (online, target))
        pairs = [(j, k) for k in range(t.shape[1]) for j in range(z.shape[1]) if j != k]
        on, off = torch.zeros(2, device=z.device, dtype=z.dtype)
        for j, k in pairs:
            C = z[:, j].T @ t[:, k] / len(z)  # (D, D)
            on = on + (1 - C.diagonal()).square().sum() / len(pairs)
            off = off + (C.square().sum() - C.diagonal().square().sum()) / len(pairs)
        return Terms(
            invariance=Term(on, minimum=0.0),
            redundancy=Term(off, weight=self.redundancy, minimum=0.0),
        )


def _standardized(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the images, as batch normalization without parameters gives."""
    centred = x - x.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + 1e-5).sqrt()


class BarlowTwins(JointEmbedding, objective="barlow-twins"):
    """Makes the correlation matrix of the embeddings of two views the identity (Zbontar et al. 2021).

    GEDI compares with it with batch normalization in all layers, `encoder.norm=batch`, and on images with embeddings of
    length 1, `normalize=true`.
    """
