"""Objectives on the embeddings of related views, (N, J, D)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import Objective, Terms, option


class InfoNCE(Objective):
    """-1/(B(J-1)) Σᵢ Σ_{p related to i} [sᵢₚ/τ - log Σ_{a≠i} exp(sᵢₐ/τ)], s the cosine similarity.

    For J = 2 this is NT-Xent (SimCLR, Eq. 1); for more views every pair of related ones is a positive.
    """

    temperature: float = option(default=0.7, gt=0, help="τ; 0.7 in SimVAE's comparison, 0.5 in SimCLR on CIFAR-10")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        N, J, _ = online.shape
        z, t = normalize(online.flatten(0, 1), dim=1), normalize(target.flatten(0, 1), dim=1)  # (B, D)
        image = torch.arange(N, device=z.device).repeat_interleave(J)  # (B,)
        itself = torch.eye(N * J, dtype=torch.bool, device=z.device)
        related = (image[:, None] == image) & ~itself
        log_p = (z @ t.T / self.temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)  # (B, B)
        return Terms(contrast=-log_p[related].mean())
