"""The wiring that joint-embedding methods share. They differ in their defaults and in their objective."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sslx.api import ConfigError, Context, Encoder, Energy, Method, Objective, Terms, Views, gather, option, slot
from sslx.ssl_methods.networks.mlp import activation


def head(widths: tuple[int, ...], features: int, norm: str, slope: float = 0.0) -> nn.Sequential:
    """Linear layers with batch normalisation, or none, and activations between them; nothing at all for no widths."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        between, normalised = i < len(widths) - 1, norm == "batch"
        layers.append(nn.Linear(features, width, bias=not (between and normalised)))  # the normalisation has a bias
        if between:
            layers += [nn.BatchNorm1d(width)] * normalised + [activation(slope)]
        features = width
    return nn.Sequential(*layers)


class Projected(Method):
    """An encoder f under a projection head g: z = g(f(x)), gathered from all processes when it is compared.

    Two processes equal one with the joined batch, but for batch normalisation: its statistics are those of the images
    of one process. `norm=none` and an encoder without it make them equal exactly.

    Where embeddings are logits or have similarities there is a log p(x) = f(x) - log Z, the logsumexp of these, and an
    `energy` can train it beside the method's own loss, on the first view of each image.
    """

    encoder: Encoder = slot(default="mlp", posterior="delta", help="f, whose mean is the representation")
    projector: tuple[int, ...] = option(default=(128, 128), gt=0, help="widths of the projection head g; []: none")
    norm: Literal["batch", "none"] = option(default="batch", help="normalisation between the layers of the heads")
    slope: float = option(default=0.0, ge=0, lt=1, help="of the heads' activations below zero; 0: ReLU")
    energy: Energy | None = slot(default=None, help="trains log p(x) as well, where the method has one")

    def build(self, ctx: Context) -> Context:
        if self.energy is not None:
            if not hasattr(self, "log_density"):
                raise ConfigError(f"energy: {type(self).__name__} has neither logits nor similarities, expected none")
            self.energy.build(ctx)
        return self.build_head(self.encoder.build(ctx))

    def build_head(self, ctx: Context) -> Context:
        """Make g. Returns the context with the size of an embedding."""
        self.head = head(self.projector, ctx.latent, self.norm, self.slope)
        return ctx.but(latent=self.projector[-1] if self.projector else ctx.latent)

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> z, (B, D)."""
        return self.head(self.encoder(x).mean).float()

    def embeddings(self, views: Views) -> Tensor:
        """z of all views, (N, V, D): the J whole ones, then the local crops, if there are any."""
        z = views.group(self.embed(views.flat))
        if views.local is None:
            return z
        local = self.embed(views.local.flatten(0, 1)).unflatten(0, views.local.shape[:2])
        return torch.cat([z, local], dim=1)

    def forward(self, views: Views) -> Terms:
        terms = self.relate(views)
        return terms if self.energy is None else Terms({**terms, **self.energy(self, views.x[:, 0])})

    def relate(self, views: Views) -> Terms:
        """The loss of the method without an energy."""
        raise NotImplementedError

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean

    @property
    def sample(self) -> Callable[[int], Tensor]:
        """n -> images drawn from p(x), (n, C, H, W). Only there if there is an energy."""
        energy: Any = self.energy
        return partial(energy.sample, self)


class JointEmbedding(Projected):
    """Views are encoded and projected, and an objective compares the embeddings of all processes.

        z = g(f(x)), online q = h(z), target k = z, sg(z) or g'(f'(x)), loss = objective(q, k)

    h is the predictor (the identity unless there is one), sg stops the gradient, f' and g' are the teacher: a moving
    average of f and g whose momentum goes from m₀ to m₁ along half a cosine, m = m₁ - (m₁ - m₀)(cos πs + 1)/2 at a
    fraction s of all steps (BYOL, 3.3). Local crops are seen by the online branch alone.
    """

    predictor: tuple[int, ...] = option(default=(), gt=0, help="widths of h, the online branch's own head; []: none")
    target: Literal["online", "stopped", "teacher"] = option(
        default="online", help="what embeddings are compared with: each other, without gradient, a moving average's"
    )
    momentum: tuple[float, float] = option(
        default=(0.99, 1.0), ge=0, le=1, help="m₀, m₁: of the teacher, at the start and at the end of training"
    )
    objective: Objective = slot(default="info-nce", help="what is minimised")

    def build(self, ctx: Context) -> Context:
        if ctx.views < 2:
            raise ConfigError(f"views.count: {type(self).__name__} relates views, expected at least 2, got {ctx.views}")
        self.steps = max(1, ctx.steps)
        ctx = super().build(ctx)
        if self.predictor and self.predictor[-1] != ctx.latent:
            width = self.predictor[-1]
            raise ConfigError(f"predictor: expected its last width to be the embedding's, {ctx.latent}, got {width}")
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
            online = chain(self.encoder.parameters(), self.head.parameters())
            for old, new in zip(self.teacher.parameters(), online, strict=True):
                old.lerp_(new, 1 - m)

    @property
    def log_density(self) -> Callable[[Tensor], Tensor]:
        """(B, C, H, W) -> f(x), (B,). Only there if the objective has one."""
        of: Any = self.objective.log_density
        return lambda x: of(self.embed(x))
