"""The wiring that joint-embedding methods share; they differ in their defaults and their objective."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.core.public import ConfigError, Context, HasDensity, Objective, Terms, Views, can, gather, option, slot
from sslx.families.heads import head
from sslx.families.projected import Projected


class UnitLength(nn.Module):
    """Embeddings (B, D) scaled to length 1."""

    def forward(self, z: Tensor) -> Tensor:
        return normalize(z.float(), dim=1)


class JointEmbedding(Projected):
    """Learns from pairs of views: an objective compares the embeddings of two views of the same image.

        z = g(f(x)), q = h(z), loss = objective(q, k), k = z (online), sg(z) (stopped) or g'(f'(x)) (teacher)

    h is the predictor (the identity by default) and sg stops the gradient. f' and g' are the teacher: a moving average
    of f and g whose momentum goes from m₀ to m₁ along half a cosine, m = m₁ - (m₁ - m₀)(cos πs + 1)/2 at a fraction s
    of all steps (BYOL, 3.3). Only the online branch sees local crops.
    """

    gated = True

    normalize: bool = option(
        default=False,
        help="Whether embeddings (z) are scaled to length 1, if the objective does not do it itself.",
    )
    predictor: tuple[int, ...] = option(default=(), gt=0, help="Widths of the predictor's layers (h); [] is none.")
    target: Literal["online", "stopped", "teacher"] = option(
        default="online", help="What embeddings are compared with: each other, without gradient, or the teacher's."
    )
    momentum: tuple[float, float] = option(
        default=(0.99, 1.0), ge=0, le=1, help="Momentum of the teacher at the start and the end of training (m₀, m₁)."
    )
    objective: Objective = slot(default="info-nce", help="Loss that compares the embeddings of the views.")

    def build_head(self, ctx: Context) -> Context:
        ctx = super().build_head(ctx)
        if self.normalize:
            self.head.append(UnitLength())
        return ctx

    def build(self, ctx: Context) -> Context:
        if ctx.views < 2:
            raise ConfigError(f"views.count: {type(self).__name__} relates views, expected at least 2, got {ctx.views}")
        self.steps = max(1, ctx.steps)
        ctx = super().build(ctx)
        if self.predictor and self.predictor[-1] != ctx.latent:
            raise ConfigError(f"predictor: expected a last width of {ctx.latent}, as of z, got {self.predictor[-1]}")
        self.predict = head(self.predictor, ctx.latent, self.norm, self.slope)
        if self.target == "teacher":
            self.teacher = copy.deepcopy(nn.ModuleList([self.encoder, self.head])).requires_grad_(False)
        return self.objective.build(ctx)

    def relate(self, views: Views) -> Terms:
        z = self.embeddings(views)  # (N, V, D)
        q = self.predict(z.flatten(0, 1)).float().view_as(z)
        if self.target == "teacher":
            f, g = self.teacher
            with torch.no_grad():
                k = views.group(g(f(views.flat).mean).float())
        else:
            k = (z if self.target == "online" else z.detach())[:, : views.count]
        online, target = gather(q), gather(k)
        with torch.autocast(z.device.type, enabled=False):  # losses are computed in float32
            return self.objective(online, target)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        super().after_step(step)
        if self.target == "teacher":
            first, last = self.momentum
            m = last - (last - first) * (math.cos(math.pi * step / self.steps) + 1) / 2
            online = nn.ModuleList([self.encoder, self.head])
            for old, new in zip(self.teacher.parameters(), online.parameters(), strict=True):
                old.lerp_(new, 1 - m)

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> log p(x) + constant, (B,). Only if the objective has a density."""
        assert can(self.objective, HasDensity), "`lacks` says so"
        return self.objective.log_density(self.embed(x))

    def lacks(self) -> set[type]:
        return super().lacks() | (set() if can(self.objective, HasDensity) else {HasDensity})
