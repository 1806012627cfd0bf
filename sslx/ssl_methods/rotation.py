"""Prediction of rotations."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sslx.api import ConfigError, Context, Projected, Terms, Views


class Rotation(Projected):
    """Which of 0, 90, 180 and 270 degrees was a view turned by? All four of each view (Gidaris et al. 2018, Eq. 2).

    Between the representation and the classifier is a projector: the paper, too, finds its earlier layers more useful
    than the last, which knows little but the angle.
    """

    def build(self, ctx: Context) -> Context:
        _, H, W = ctx.image_shape
        if H != W:
            raise ConfigError(f"rotation: expected square images, got {H}x{W}")
        return super().build(ctx)

    def build_head(self, ctx: Context) -> Context:
        ctx = super().build_head(ctx)
        self.head.append(nn.Linear(ctx.latent, 4))
        return ctx.but(latent=4)

    def forward(self, views: Views) -> Terms:
        x = views.flat
        turned = torch.cat([x.rot90(r, dims=(2, 3)) for r in range(4)])  # (4·B, C, H, W)
        y = torch.arange(4, device=x.device).repeat_interleave(len(x))
        return Terms(rotation=cross_entropy(self.embed(turned), y))
