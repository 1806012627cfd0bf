"""SeLA."""

from __future__ import annotations

from torch import Tensor, nn

from sslx.api import Context, PseudoLabels, option
from sslx.ssl_methods.parts.sinkhorn import sinkhorn


class SeLA(PseudoLabels):
    """Predicts labels that are the optimal transport of the predictions to equally large classes (Asano et al. 2020).

    Before each epoch Q ∝ P^λ with equal row and column sums, by Sinkhorn-Knopp (Eq. 6 to 8), y = argmax Q; P are the
    predictions of the epoch before, averaged over views. The authors start from random labels.
    """

    sharpness: float = option(default=25.0, gt=0, help="λ")
    iterations: int = option(default=20, gt=0, help="of Sinkhorn-Knopp")

    def build_head(self, ctx: Context) -> Context:
        ctx = super().build_head(ctx)
        self.head.append(nn.Linear(ctx.latent, self.clusters))
        return ctx.but(latent=self.clusters)

    def logits(self, z: Tensor) -> Tensor:
        return z

    def remember(self, z: Tensor) -> Tensor:
        return z.softmax(dim=2).mean(dim=1)

    def assign(self, rows: Tensor) -> Tensor:
        return sinkhorn(self.sharpness * rows.clamp(min=1e-30).log(), self.iterations).argmax(dim=1)
