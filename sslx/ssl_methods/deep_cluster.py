import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.api import Context, PseudoLabels, option


class DeepCluster(PseudoLabels):
    """Predicts the k-means cluster of an image; clusters are found before each epoch (Caron et al. 2018).

        minimize -log softmax(s)_y, s_k = cos(z, c_k)/τ

    c are the centroids of K clusters, and y is the cluster of the image. This is its second version (Caron et al. 2020,
    C.2): spherical k-means on the embeddings of the previous epoch.
    """

    temperature: float = option(default=0.1, gt=0, help="Temperature of the logits (τ).")
    iterations: int = option(default=10, gt=0, help="Number of k-means iterations.")

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        self.centroids = nn.Buffer(normalize(torch.randn(self.clusters, ctx.latent), dim=1))
        return ctx

    def logits(self, z: Tensor) -> Tensor:
        return normalize(z, dim=-1) @ self.centroids.T / self.temperature

    def remember(self, z: Tensor) -> Tensor:
        return normalize(normalize(z, dim=2).mean(dim=1), dim=1)

    def assign(self, rows: Tensor) -> Tensor:
        import faiss  # here, so that the method can be shown where faiss is not installed

        seed = int(torch.randint(2**31 - 1, ()))
        kmeans = faiss.Kmeans(
            rows.shape[1], self.clusters, niter=self.iterations, spherical=True, seed=seed, min_points_per_centroid=1
        )
        kmeans.train(rows.cpu().numpy())
        self.centroids.copy_(torch.from_numpy(kmeans.centroids))
        return self.logits(rows).argmax(dim=1)
