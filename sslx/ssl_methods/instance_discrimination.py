import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import Bank, Terms, cross_entropy_of_known, option


class InstanceDiscrimination(Bank):
    """Classifies images, each of which is a class of its own (Wu et al. 2018).

        -log exp(v_i·z/τ) / Σ_j exp(v_j·z/τ), v_i ← normalized(m v_i + (1 - m) z̄)   (Eq. 2)

    j are all training images, v their rows in the bank and z̄ the mean over an image's views. Images not seen yet do not
    count: the first epoch fills the bank. The paper starts from random rows; in a few epochs instead of its 200 these
    make the representation worse than an untrained one. The paper estimates the sum from 4096 images by NCE, for a
    million images; here it is computed, which is possible for up to about 100 000.
    """

    temperature: float = option(default=0.07, gt=0, help="Temperature of the similarities (τ).")
    bank_momentum: float = option(default=0.5, ge=0, lt=1, help="Weight of the old row in the bank (m).")

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
