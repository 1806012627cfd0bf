import torch
from torch import Tensor, nn

from sslx.api import Assignment, Context, Prototypical, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class DINOLoss(Assignment):
    """Cross-entropy with the clusters that a teacher finds for another view (Caron et al. 2021, Eq. 1 and 3).

        -Σ_c P'_c(x') log P_c(x), P = softmax(s/τ), P' = softmax((s' - c)/τ'), c ← m c + (1 - m) mean s'   (Eq. 4)

    The mean over pairs of different views; the centre c is a moving average of the teacher's scores.
    """

    gated = True

    teacher_temperature: float = option(default=0.04, gt=0, help="Temperature of the teacher (τ'), best below τ.")
    centre_momentum: float = option(default=0.9, ge=0, lt=1, help="Weight of earlier batches in the centre (m).")

    def build(self, ctx: Context) -> Context:
        self.centre = nn.Buffer(torch.zeros(ctx.latent))
        return ctx

    def teach(self, target: Tensor) -> Tensor:
        """Scores of the teacher (N, J, K) -> its probabilities P'. The centre will move towards their mean."""
        self.mean = target.detach().mean(dim=(0, 1))
        return ((target.detach() - self.centre) / self.teacher_temperature).softmax(dim=2)

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        return Terms(distillation=-over_pairs(self.log_prob(online) @ self.teach(target).mT))

    def after_step(self, step: int) -> None:
        self.centre.lerp_(self.mean, 1 - self.centre_momentum)


class DINO(Prototypical, target="teacher", momentum=(0.99, 1.0), objective="dino"):
    """Predicts the clusters that a moving average of the network finds for another view, centred and sharpened.

    Caron et al. 2021 have K = 65536, m₀ = 0.996 and eight local crops (`views=dino` for encoders that take any size, or
    `--set views.local.use=standard`). They evaluate the teacher; here the student is evaluated, as for all methods.
    """
