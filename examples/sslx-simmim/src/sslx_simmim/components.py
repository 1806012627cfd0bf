"""The method SimMIM."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sslx import api
from sslx.api import ConfigError, Context, Encoded, Encoder, HasTokens, Term, Terms, Use, Views, option, slot


class SimMIM(Encoded):
    """Predicts the pixels of hidden patches by one linear layer on the tokens of the encoder (Xie et al. 2022).

        minimize 1/|M| Σ_{t in M} mean |(W f(x̂) + b)_t - x_t|

    M are the hidden patches, drawn anew for each image in each epoch, and x_t the pixels of a patch. x̂ is the image
    with a learned patch of pixels in place of each hidden one. In the paper a learned vector takes the place of the
    embedding of a hidden patch. Squares of 32 pixels are hidden there, and here patches of the encoder.
    """

    defaults = {"views": {"count": 1}}

    encoder: Encoder = slot(default="vit", posterior="delta", dim=0, help="Network that gives tokens of patches (f).")
    masked: float = option(default=0.6, gt=0, lt=1, help="Share of the patches that are hidden.")

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        if not api.can(self.encoder, HasTokens):
            raise ConfigError("encoder: it gives no tokens of patches; expected a vision transformer such as vit")
        if self.encoder.dim:
            raise ConfigError("encoder.dim: SimMIM trains tokens and no layer above them, expected 0")
        C, H, W = ctx.image_shape
        _, h, w, P = self.encoder.patches(torch.zeros(1, C, H, W)).shape
        side = math.isqrt(P // C)
        if (P, h, w) != (C * side**2, math.ceil(H / side), math.ceil(W / side)):
            raise ConfigError("encoder: expected square patches of the views, not of scaled images")
        self.patch = nn.Parameter(torch.full((C, side, side), 0.5))  # grey at first
        self.head = nn.Linear(ctx.latent, P)
        return ctx

    def forward(self, views: Views) -> Terms:
        x = self.encoder.patches(views.flat)  # (B, h, w, P)
        T = x.shape[1] * x.shape[2]
        M = api.uniform(views.keys(Use.MASKS), T).argsort(dim=1)[:, : math.ceil(self.masked * T)]  # (B, |M|)
        hidden = torch.zeros(len(x), T, dtype=torch.bool, device=x.device).scatter(1, M, True).view(x.shape[:3])
        tokens = api.chunked(self.encoder, self.encoder.tokens, self.covered(views.flat, hidden))
        error = (self.head(tokens).float() - x.flatten(1, 2)).abs().mean(dim=2)  # (B, T)
        return Terms(error=Term(error.gather(1, M).mean(), minimum=0.0))

    def covered(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Images (B, C, H, W) with the learned patch in place of the hidden ones, (B, h, w)."""
        (H, W), (h, w), side = x.shape[2:], hidden.shape[1:], self.patch.shape[1]
        mask = hidden[:, None].repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
        return torch.where(mask[..., :H, :W], self.patch.repeat(1, h, w)[:, :H, :W], x)
