"""Objectives on the embeddings of related views, (N, J, D), that belong to no single method."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import Context, Objective, Term, Terms, option


def over_pairs(x: Tensor) -> Tensor:
    """(..., V, J), a value for each online and each target view -> their mean over all pairs of different views."""
    V, J = x.shape[-2:]
    return x[..., ~torch.eye(V, J, dtype=torch.bool, device=x.device)].mean()


class InfoNCE(Objective):
    """-1/(B(J-1)) Σᵢ Σ_{p related to i} [sᵢₚ/τ - log Σ_{a≠i} exp(sᵢₐ/τ)], s the cosine similarity.

    For J = 2 this is NT-Xent (SimCLR, Eq. 1); for more views every pair of related ones is a positive. The embeddings r
    of the latest images give a density, f(x) = log Σᵣ exp(s(z, r)/τ) (GEDI, Eq. 2).
    """

    temperature: float = option(default=0.7, gt=0, help="τ; 0.7 in SimVAE's comparison, 0.5 in SimCLR on CIFAR-10")
    references: int = option(default=256, gt=0, help="embeddings r that are kept, of the latest views")

    latest: Tensor

    def build(self, ctx: Context) -> Context:
        self.register_buffer("latest", torch.randn(self.references, ctx.latent))
        return ctx

    def similarity(self, z: Tensor, t: Tensor) -> Tensor:
        """(n, D), (m, D) -> s, (n, m)."""
        return normalize(z, dim=1) @ normalize(t, dim=1).T

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        (N, V, _), J = online.shape, target.shape[1]
        z, t = online.flatten(0, 1), target.flatten(0, 1)
        self.seen = t.detach()
        image = torch.arange(N, device=z.device)
        same = image.repeat_interleave(V)[:, None] == image.repeat_interleave(J)  # (N·V, N·J)
        itself = torch.eye(V, J, dtype=torch.bool, device=z.device).repeat(N, N) & same
        log_p = (self.similarity(z, t) / self.temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
        return Terms(contrast=-log_p[same & ~itself].mean())

    def log_density(self, z: Tensor) -> Tensor:
        """(B, D) -> f(x), (B,)."""
        return (self.similarity(z, self.latest) / self.temperature).logsumexp(dim=1)

    def after_step(self, step: int) -> None:
        self.latest.copy_(torch.cat([self.seen, self.latest])[: self.references])


class Cosine(Objective):
    """Mean over pairs of different views of ‖q̄ - k̄‖² = 2 - 2 cos(q, k), bars for unit length (BYOL, Eq. 2).

    SimSiam's D(q, k) is half of it, less one (Eq. 1).
    """

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        cosine = normalize(online, dim=2) @ normalize(target, dim=2).mT  # (N, V, J)
        return Terms(distance=Term(over_pairs(2 - 2 * cosine), minimum=0.0))
