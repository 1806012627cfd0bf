"""The method TiCo."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.api import ConfigError, Context, Encoder, Method, Term, Terms, Views, gather, option, slot


class TiCo(Method):
    """Views of an image agree, and embeddings avoid the directions of earlier embeddings (Zhu et al. 2022).

        loss = -E[z·k] + ρ E[zᵀ C z],   Cₜ = β Cₜ₋₁ + (1 - β) E[z zᵀ]

    z = g(f(x)) is the embedding of the first view and k = g'(f'(x')) that of the second, both of unit length. f' and g'
    are moving averages of f and g. C has no gradient. Every ordered pair of different views is used.
    """

    encoder: Encoder = slot(default="mlp", posterior="delta", help="The encoder (f), whose mean is the representation.")
    projector: tuple[int, int] = option(default=(256, 128), gt=0, help="Widths of the two layers of the head (g).")
    rho: float = option(default=8.0, ge=0, help="Weight of the covariance term (ρ).")
    beta: float = option(default=0.9, ge=0, lt=1, help="Weight of the past in the running covariance (β).")
    momentum: float = option(default=0.99, ge=0, le=1, help="Weight of the past in the moving averages of f and g.")

    covariance: Tensor

    def build(self, ctx: Context) -> Context:
        if ctx.views < 2:
            raise ConfigError(f"views.count: expected at least 2, got {ctx.views}")
        ctx = self.encoder.build(ctx)
        hidden, out = self.projector
        self.head = nn.Sequential(
            nn.Linear(ctx.latent, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out)
        )
        self.teacher = copy.deepcopy(nn.ModuleList([self.encoder, self.head])).requires_grad_(False)
        self.register_buffer("covariance", torch.zeros(out, out))
        return ctx.but(latent=out)

    def forward(self, views: Views) -> Terms:
        z = views.group(normalize(self.head(self.encoder(views.flat).mean).float(), dim=1))  # (N, J, D)
        f, g = self.teacher
        with torch.no_grad():
            k = views.group(normalize(g(f(views.flat).mean).float(), dim=1))
        z, k = gather(z), gather(k)
        with torch.autocast(z.device.type, enabled=False):  # losses are computed in float32
            other = ~torch.eye(views.count, dtype=torch.bool, device=z.device)  # (J, J)
            agreement = (z @ k.mT)[:, other].mean()
            flat = z.flatten(0, 1)  # (B, D)
            here = flat.detach().T @ flat.detach() / len(flat)
            self.next = self.beta * self.covariance + (1 - self.beta) * here
            contrast = ((flat @ self.next) * flat).sum(dim=1).mean()
        return Terms(agreement=Term(-agreement, minimum=-1.0), contrast=Term(contrast, weight=self.rho, minimum=0.0))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        self.covariance.copy_(self.next)
        online = [*self.encoder.parameters(), *self.head.parameters()]
        for old, new in zip(self.teacher.parameters(), online, strict=True):
            old.lerp_(new, 1 - self.momentum)

    def represent(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, D)
        return self.encoder(x).mean
