from torch import Tensor, nn

from sslx.api import Context, PseudoLabels, option
from sslx.ssl_methods.parts.objectives import sinkhorn


class SeLA(PseudoLabels):
    """Predicts labels found by assigning images to equally large classes (optimal transport; Asano et al. 2020).

        minimize -log p(y|x), y = argmax Q, Q ∝ P^λ

    Q has equal row and column sums, by Sinkhorn-Knopp before each epoch (Eq. 6 to 8). P are the predictions of the
    previous epoch, averaged over views. The authors start from random labels.
    """

    sharpness: float = option(default=25.0, gt=0, help="Inverse temperature of the transport plan (λ).")
    iterations: int = option(default=20, gt=0, help="Number of Sinkhorn-Knopp iterations.")

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
