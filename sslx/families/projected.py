from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sslx.core.public import (
    ConfigError,
    Context,
    Encoder,
    Energy,
    HasDensity,
    Samples,
    Terms,
    Views,
    can,
    option,
    slot,
)
from sslx.families.encoded import Encoded
from sslx.families.heads import head


class Projected(Encoded):
    """An encoder f followed by a projection head g: a loss is computed on the embeddings z = g(f(x)) of all processes.

    Training on two processes equals training on one with the joined batch.

    If embeddings are logits or have similarities, log p(x) = f(x) - log Z with f their logsumexp is a density. An
    `energy` can train it in addition to the method's own loss, on the first view of each image.
    """

    encoder: Encoder = slot(default="mlp", posterior="delta", help="Network whose output the head projects (f).")
    projector: tuple[int, ...] = option(default=(128, 128), gt=0, help="Widths of the projection head (g); [] is none.")
    norm: Literal["batch", "none"] = option(default="batch", help="Normalization between the layers of the heads.")
    slope: float = option(default=0.0, ge=0, lt=1, help="Slope of the head activations for negative inputs; 0 is ReLU.")
    energy: Energy | None = slot(default=None, help="Additional loss that trains the method's density, log p(x).")

    def build(self, ctx: Context) -> Context:
        if self.energy is not None:
            if not can(self, HasDensity):
                raise ConfigError(f"energy: {type(self).__name__} has neither logits nor similarities, expected none")
            self.energy.build(ctx)
        return self.build_head(self.encoder.build(ctx))

    def build_head(self, ctx: Context) -> Context:
        """Make the head g. Returns the context with the size of an embedding."""
        self.head = head(self.projector, ctx.latent, self.norm, self.slope)
        return ctx.but(latent=self.projector[-1] if self.projector else ctx.latent)

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> z, (B, D)."""
        return self.head(self.encoder(x).mean).float()

    def embeddings(self, views: Views) -> Tensor:
        """z of all views, (N, V, D): the J whole views, then the local crops, if there are any."""
        z = views.group(self.embed(views.flat))
        if views.local is None:
            return z
        local = self.embed(views.local.flatten(0, 1)).unflatten(0, views.local.shape[:2])
        return torch.cat([z, local], dim=1)

    def forward(self, views: Views) -> Terms:
        terms = self.relate(views)
        return terms if self.energy is None else Terms({**terms, **self.energy(self, views.x[:, 0])})

    def relate(self, views: Views) -> Terms:
        """The loss of the method, without the energy."""
        raise NotImplementedError

    def outputs(self) -> dict[str, Callable[[Tensor], Tensor]]:
        return {**super().outputs(), "embedding": self.embed}

    def sample(self, n: int) -> Tensor:
        """n images drawn from p(x), (n, C, H, W). Only if there is an energy."""
        assert self.energy is not None, "`lacks` says so"
        return self.energy.sample(self, n)

    def lacks(self) -> set[type]:
        return {Samples} if self.energy is None else set()
