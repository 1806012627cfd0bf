"""DINO."""

from __future__ import annotations

import torch
from torch import Tensor

from sslx.api import Assignment, Context, Prototypical, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class DINOLoss(Assignment):
    """-Σ_c P'_c(x') log P_c(x) over pairs of different views (Caron et al. 2021, Eq. 1 and 3).

    P = softmax(s/τ), P' = softmax((s' - c)/τ'), c the moving average of the teacher's mean scores (Eq. 4).
    """

    teacher_temperature: float = option(default=0.04, gt=0, help="τ'; below τ, it sharpens. To 0.07 in long training")
    centre_momentum: float = option(default=0.9, ge=0, lt=1, help="m of c ← m c + (1 - m) mean s'")

    centre: Tensor

    def build(self, ctx: Context) -> Context:
        self.register_buffer("centre", torch.zeros(ctx.latent))
        return ctx

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        self.mean = target.detach().mean(dim=(0, 1))
        teacher = ((target.detach() - self.centre) / self.teacher_temperature).softmax(dim=2)
        return Terms(distillation=-over_pairs(self.log_prob(online) @ teacher.mT))

    def after_step(self, step: int) -> None:
        self.centre.lerp_(self.mean, 1 - self.centre_momentum)


class DINO(
    Prototypical, target="teacher", momentum=(0.99, 1.0), objective="dino"
):  # fmt: skip
    """A view predicts what a moving average of the network makes of another view, centred and sharpened.

    Caron et al. 2021 have K = 65536, m₀ = 0.996 and eight local crops (`views=dino`, for encoders of any image size; or
    `--set views.local.use=standard`), and evaluate the teacher; here the student is evaluated, as for all methods.
    """
