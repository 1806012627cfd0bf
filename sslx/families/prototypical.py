from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.core.public import Context, Objective, option, slot
from sslx.families.joint_embedding import JointEmbedding


class Prototypes(nn.Module):
    """The cosine similarities of embeddings with K learned directions, s_c = cos(z, w_c): (B, D) -> (B, K)."""

    def __init__(self, features: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, features))

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # scores are divided by small temperatures
            return normalize(z.float(), dim=1) @ normalize(self.weight, dim=1).T


class Assignment(Objective):
    """An objective that compares scores s of K clusters, with probabilities p = softmax(s/τ)."""

    needs = "the scores (N, J, K) of J views for K prototypes, of both branches, and `build`, as in `Prototypical`"

    temperature: float = option(default=0.1, gt=0, help="Temperature of the predicted probabilities (τ).")

    def log_prob(self, scores: Tensor) -> Tensor:
        """(..., K) -> log p, (..., K)."""
        return (scores / self.temperature).log_softmax(dim=-1)

    def log_density(self, scores: Tensor) -> Tensor:
        """(B, K) -> f(x) = logsumexp(s/τ), (B,)."""
        return (scores / self.temperature).logsumexp(dim=1)


class Prototypical(JointEmbedding):
    """A joint embedding whose projection head ends in the cosine similarities with K prototypes: z is (N, J, K)."""

    defaults = {"evaluators": ["cluster"]}

    prototypes: int = option(default=100, gt=1, help="Number of prototypes (K); for clustering, the number of classes.")
    objective: Assignment = slot(default="swav", help="Loss that compares the scores of the views.")

    def build_head(self, ctx: Context) -> Context:
        ctx = super().build_head(ctx)
        self.head.append(Prototypes(ctx.latent, self.prototypes))
        return ctx.but(latent=self.prototypes)

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> log p(prototype | x), (B, K)."""
        return self.objective.log_prob(self.embed(x))
