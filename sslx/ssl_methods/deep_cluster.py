"""DeepCluster."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import Context, PseudoLabels, option


class DeepCluster(PseudoLabels):
    """Predicts the k-means cluster of an image, found before each epoch (Caron et al. 2018).

    As in its second version (Caron et al. 2020, C.2): spherical k-means on the embeddings of the epoch before, whose
    centroids are the classifier, logits = cos(z, centroid)/τ.
    """

    temperature: float = option(default=0.1, gt=0, help="τ")
    iterations: int = option(default=10, gt=0, help="of k-means")

    centroids: Tensor

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        self.register_buffer("centroids", normalize(torch.randn(self.clusters, ctx.latent), dim=1))
        return ctx

    def logits(self, z: Tensor) -> Tensor:
        return normalize(z, dim=-1) @ self.centroids.T / self.temperature

    def remember(self, z: Tensor) -> Tensor:
        return normalize(normalize(z, dim=2).mean(dim=1), dim=1)

    def assign(self, rows: Tensor) -> Tensor:
        import faiss  # slow to import

        seed = int(torch.randint(2**31 - 1, ()))
        kmeans = faiss.Kmeans(
            rows.shape[1], self.clusters, niter=self.iterations, spherical=True, seed=seed, min_points_per_centroid=1
        )
        kmeans.train(rows.cpu().numpy())
        self.centroids.copy_(torch.from_numpy(kmeans.centroids))
        return self.logits(rows).argmax(dim=1)
