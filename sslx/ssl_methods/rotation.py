"""Prediction of rotations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sslx.api import ConfigError, Context, Encoder, Method, Terms, Views, slot


class Rotation(Method):
    """Which of 0, 90, 180 and 270 degrees was a view turned by? All four of each view (Gidaris et al. 2018, Eq. 2)."""

    encoder: Encoder = slot(default="mlp", posterior="delta", help="its mean is the representation")

    def build(self, ctx: Context) -> Context:
        _, H, W = ctx.image_shape
        if H != W:
            raise ConfigError(f"rotation: expected square images, got {H}x{W}")
        ctx = self.encoder.build(ctx)
        self.classifier = nn.Linear(ctx.latent, 4)
        return ctx

    def forward(self, views: Views) -> Terms:
        x = views.flat
        turned = torch.cat([x.rot90(r, dims=(2, 3)) for r in range(4)])  # (4·B, C, H, W)
        y = torch.arange(4, device=x.device).repeat_interleave(len(x))
        return Terms(rotation=cross_entropy(self.classifier(self.encoder(turned).mean).float(), y))

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean
