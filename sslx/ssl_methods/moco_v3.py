import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import JointEmbedding, Objective, Term, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


def contrast(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """-log exp(aₙ·bₙ/τ) / Σₘ exp(aₙ·bₘ/τ), the mean over images, for each two views: (N, A, D), (N, B, D) -> (A, B)."""
    s = torch.einsum("nad,mbd->abnm", a, b) / temperature
    return -s.log_softmax(dim=3).diagonal(dim1=2, dim2=3).mean(dim=2)


class KeyNCE(Objective):
    """Contrast of a query q of each image with the keys k of another view of all images (Chen et al. 2021, Eq. 1).

        -2τ log exp(qₙ·kₙ/τ) / Σₘ exp(qₙ·kₘ/τ)

    All are of unit length, and the loss is the mean over pairs of different views, where the paper has the sum.
    """

    least_images = 2

    temperature: float = option(default=0.2, gt=0, help="Temperature (τ); 0.2 for vision transformers in the paper.")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        loss = over_pairs(contrast(normalize(online, dim=2), normalize(target, dim=2), self.temperature))
        return Terms(contrast=Term(loss, weight=2 * self.temperature))


class MoCoV3(
    JointEmbedding, projector=(128, 128), predictor=(128, 128), target="teacher", momentum=(0.99, 1.0),
    objective="key-nce",
):  # fmt: skip
    """Contrasts predictions with the embeddings of a moving average of the network, without a queue (Chen et al. 2021).

    The paper has heads of 4096-4096-256 and 4096-256 with batch normalization after the last layers as well, and for
    vision transformers a random embedding of patches that is not trained.
    """
