"""CorInfoMax."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import Context, JointEmbedding, Objective, Term, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class CorInfoMaxLoss(Objective):
    """α mean (z - z')² - 1/D [log|R + εI| + log|R' + εI|] (Ozsoy et al. 2022, Eq. 6), z of unit length.

        μ ← λμ + (1-λ) z̄,   R ← λR + (1-λ) 1/N Σ (z - μ)(z - μ)ᵀ,   for each view

    For J views the mean over pairs. Local crops have no covariance of their own.
    """

    attraction: float = option(default=250.0, ge=0, help="α; 250 on CIFAR-10, 1000 on CIFAR-100, with D = 64 and 128")
    forgetting: float = option(default=0.01, ge=0, lt=1, help="λ, what remains of the moments of earlier steps")
    epsilon: float = option(default=1e-6, gt=0, help="ε; 1e-8 for CIFAR in the authors' code")

    mu: Tensor
    R: Tensor

    def build(self, ctx: Context) -> Context:
        self.register_buffer("mu", torch.zeros(ctx.views, 1, ctx.latent))
        self.register_buffer("R", torch.eye(ctx.latent).repeat(ctx.views, 1, 1))
        return ctx

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        q, k = normalize(online, dim=2), normalize(target, dim=2)
        z, keep = q[:, : k.shape[1]].transpose(0, 1), self.forgetting  # (J, N, D)
        mu = keep * self.mu + (1 - keep) * z.mean(dim=1, keepdim=True)
        R = keep * self.R + (1 - keep) * (z - mu).mT @ (z - mu) / z.shape[1]
        self.moments = mu.detach(), R.detach()
        D = z.shape[2]
        # In float64: the determinant of D small numbers is far smaller still.
        volume = torch.logdet(R.double() + self.epsilon * torch.eye(D, device=z.device)).mean()
        distance = over_pairs((q[:, :, None] - k[:, None]).square().mean(dim=3))
        return Terms(
            attraction=Term(distance, weight=self.attraction, minimum=0.0),
            volume=-2 / D * volume.to(distance.dtype),
        )

    def after_step(self, step: int) -> None:
        for old, new in zip((self.mu, self.R), self.moments, strict=True):
            old.copy_(new)


class CorInfoMax(JointEmbedding, projector=(128, 64), objective="cor-info-max"):
    """Views agree while the embeddings fill the volume of their space (Ozsoy et al. 2022)."""
