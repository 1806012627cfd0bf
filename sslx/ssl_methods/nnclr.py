from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import JointEmbedding, Terms
from sslx.ssl_methods.moco import QueueNCE
from sslx.ssl_methods.moco_v3 import contrast
from sslx.ssl_methods.parts.objectives import over_pairs


class NeighbourNCE(QueueNCE, temperature=0.1):
    """Contrast in which the nearest neighbour of a view is the positive of another view (Dwibedi et al. 2021).

        -log exp(NN(zₙ)·pₙ/τ) / Σₘ exp(NN(zₙ)·pₘ/τ)

    NN is the nearest embedding in a queue of embeddings of earlier images, without gradient, p are the predictions for
    another view of all images, and all are of unit length. The loss is the mean over pairs of different views. The
    queue holds the first view of each image, 98304 of them in the paper, where that of `queue-nce` holds all views. The
    density is that of `queue-nce`.
    """

    least_images = 2

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        p, z = normalize(online, dim=2), normalize(target.detach(), dim=2)
        self.keys = z[:, 0]
        nearest = self.queue[(z @ self.queue.T).argmax(dim=2)]  # (N, J, D)
        return Terms(contrast=over_pairs(contrast(nearest, p, self.temperature).T))


class NNCLR(JointEmbedding, predictor=(128, 128), target="stopped", objective="neighbour-nce"):
    """Contrasts predictions with nearest neighbours of the image instead of the image itself (Dwibedi et al. 2021).

    The paper has heads of 2048-2048-256 and 4096-256, with batch normalization after the last layer of the first.
    """
