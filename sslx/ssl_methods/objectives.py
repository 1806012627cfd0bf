"""Objectives on the embeddings of related views, (N, J, D), that belong to no single method."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import Objective, Term, Terms, option


def over_pairs(x: Tensor) -> Tensor:
    """(..., V, J), a value for each online and each target view -> their mean over all pairs of different views."""
    V, J = x.shape[-2:]
    return x[..., ~torch.eye(V, J, dtype=torch.bool, device=x.device)].mean()


class InfoNCE(Objective):
    """-1/(B(J-1)) Σᵢ Σ_{p related to i} [sᵢₚ/τ - log Σ_{a≠i} exp(sᵢₐ/τ)], s the cosine similarity.

    For J = 2 this is NT-Xent (SimCLR, Eq. 1); for more views every pair of related ones is a positive.
    """

    temperature: float = option(default=0.7, gt=0, help="τ; 0.7 in SimVAE's comparison, 0.5 in SimCLR on CIFAR-10")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        (N, V, _), J = online.shape, target.shape[1]
        z, t = normalize(online.flatten(0, 1), dim=1), normalize(target.flatten(0, 1), dim=1)
        image = torch.arange(N, device=z.device)
        same = image.repeat_interleave(V)[:, None] == image.repeat_interleave(J)  # (N·V, N·J)
        itself = torch.eye(V, J, dtype=torch.bool, device=z.device).repeat(N, N) & same
        log_p = (z @ t.T / self.temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
        return Terms(contrast=-log_p[same & ~itself].mean())


class Cosine(Objective):
    """Mean over pairs of different views of ‖q̄ - k̄‖² = 2 - 2 cos(q, k), bars for unit length (BYOL, Eq. 2).

    SimSiam's D(q, k) is half of it, less one (Eq. 1).
    """

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        cosine = normalize(online, dim=2) @ normalize(target, dim=2).mT  # (N, V, J)
        return Terms(distance=Term(over_pairs(2 - 2 * cosine), minimum=0.0))
