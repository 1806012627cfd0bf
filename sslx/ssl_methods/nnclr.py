import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.api import Context, JointEmbedding, Objective, Terms, option
from sslx.ssl_methods.moco_v3 import contrast
from sslx.ssl_methods.parts.objectives import over_pairs


class NeighbourNCE(Objective):
    """Contrast in which the nearest neighbour of a view is the positive of another view (Dwibedi et al. 2021).

        -log exp(NN(zₙ)·pₙ/τ) / Σₘ exp(NN(zₙ)·pₘ/τ)

    NN is the nearest embedding in a queue of embeddings of earlier images, without gradient, p are the predictions for
    another view of all images, and all are of unit length. The loss is the mean over pairs of different views. The
    queue holds the first view of each image, the newest first, those of all processes in order of rank.
    """

    gated = True
    least_images = 2
    needs = "a queue, which `build` makes and `after_step` fills, and embeddings (N, J, D) of both branches"

    temperature: float = option(default=0.1, gt=0, help="Temperature of the softmax (τ).")
    queue_length: int = option(default=4096, gt=0, help="Number of embeddings in the queue; 98304 in the paper.")

    def build(self, ctx: Context) -> Context:
        self.queue = nn.Buffer(normalize(torch.randn(self.queue_length, ctx.latent), dim=1))
        return ctx

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        p, z = normalize(online, dim=2), normalize(target.detach(), dim=2)
        self.seen = z[:, 0]
        nearest = self.queue[(z @ self.queue.T).argmax(dim=2)]  # (N, J, D)
        return Terms(contrast=over_pairs(contrast(nearest, p, self.temperature).T))

    def after_step(self, step: int) -> None:
        self.queue.copy_(torch.cat([self.seen, self.queue])[: self.queue_length])


class NNCLR(JointEmbedding, predictor=(128, 128), target="stopped", objective="neighbour-nce"):
    """Contrasts predictions with nearest neighbours of the image instead of the image itself (Dwibedi et al. 2021).

    The paper has heads of 2048-2048-256 and 4096-256, with batch normalization after the last layer of the first.
    """
