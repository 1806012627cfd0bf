from torch import Tensor

from sslx.api import JointEmbedding
from sslx.ssl_methods.parts.objectives import InfoNCE


class DistanceNCE(InfoNCE):
    """`info-nce` with the similarity s(z, z') = -‖z - z'‖², for embeddings of any length."""

    def similarity(self, z: Tensor, t: Tensor) -> Tensor:
        # Not torch.cdist: its gradient is infinite if two embeddings coincide.
        squares = z.square().sum(dim=1, keepdim=True) + t.square().sum(dim=1) - 2 * z @ t.T
        return -squares.clamp(min=0)


class EBCLR(
    JointEmbedding,
    objective="distance-nce",
    energy={"use": "sgld", "weight": 0.1, "magnitude": 0.1},
    norm="none",
    slope=0.2,
):
    """Contrastive learning combined with a density of the same embeddings (Kim & Ye 2022).

        p(x, x') = p(x'|x) p(x), -log p(x'|x) is `distance-nce`, f(x) = log Σᵣ exp(-‖z - r‖²/τ)   (GEDI, Eq. 1 and 2)

    Here r are the embeddings of the latest views, without gradient. The authors' sampler differs from `sgld`.
    """
