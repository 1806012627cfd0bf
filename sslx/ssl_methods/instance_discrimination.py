"""Instance discrimination."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import Bank, Terms, cross_entropy_of_known, option


class InstanceDiscrimination(Bank):
    """-log exp(v_i·z/τ) / Σ_j exp(v_j·z/τ), all images j of the training set, v their rows (Wu et al. 2018, Eq. 2).

    Rows are v_i ← normalised(m v_i + (1 - m) z̄), z̄ the mean over the views of an image. Images that were not seen yet
    do not count: the first epoch fills the bank. The paper starts from random rows and has 200 epochs; in a few, being
    drawn to random rows makes the representation worse than an untrained one. The paper estimates the sum over a
    million images from 4096 by NCE; up to some 100 000 it can be computed.
    """

    temperature: float = option(default=0.07, gt=0, help="τ")
    bank_momentum: float = option(default=0.5, ge=0, lt=1, help="m, part of a row that remains; 0.5 in the code")

    def remember(self, z: Tensor) -> Tensor:
        m = self.bank_momentum
        return normalize(m * self.bank[self.index] + (1 - m) * normalize(z, dim=2).mean(dim=1), dim=1)

    def compare(self, z: Tensor) -> Terms:
        logits = normalize(z, dim=2).flatten(0, 1) @ self.bank.T / self.temperature  # (N·V, n)
        y = torch.where(self.bank[self.index].any(dim=1), self.index, -1).repeat_interleave(z.shape[1])
        return Terms(discrimination=cross_entropy_of_known(logits, y))

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> f(x) = log Σⱼ exp(v_j·z/τ), (B,)."""
        return (normalize(self.embed(x), dim=1) @ self.bank.T / self.temperature).logsumexp(dim=1)
