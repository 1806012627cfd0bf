"""A prior on the directions of latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import ConfigError, Context, Prior, option

_LOG_2PI = math.log(2 * math.pi)


class VonMisesFisher(Prior):
    """Related latents share a direction: zʲ = rʲ uʲ, uʲ ~ vMF(μ, κ) with the mean direction μ integrated out.

        log p(z¹…zᴶ|y) = Σⱼ log N(zʲ; 0, I) - J log a(κ) + log a(κ ‖Σⱼ uʲ‖),   uʲ = zʲ / ‖zʲ‖

    a(κ) = E[exp(κ μ·u)] over uniform directions u is ₀F₁(D/2; κ²/4) (Mardia & Jupp 2000, 9.3), and μ is uniform. The
    lengths are those of a standard normal: for κ = 0, or for a single view, the prior is N(0, I).
    """

    concentration: float = option(default=20.0, ge=0, help="Concentration around the shared direction (κ).")
    origin: Tensor

    def build(self, ctx: Context) -> Context:
        if ctx.latent < 2:
            raise ConfigError(f"encoder.dim: expected at least 2, as there are no directions in {ctx.latent}")
        self.register_buffer("origin", torch.zeros(ctx.latent), persistent=False)
        return ctx

    def log_a(self, κ: Tensor, largest: float) -> Tensor:
        """log ₀F₁(D/2; κ²/4) for κ of any shape, by its series, whose terms decrease from index κ/2 on."""
        k = torch.arange(int(largest) + 30, dtype=κ.dtype, device=κ.device)
        half = torch.tensor(len(self.origin) / 2, dtype=κ.dtype, device=κ.device)
        log_x = (κ.square() / 4).clamp(min=torch.finfo(κ.dtype).tiny).log()
        terms = k * log_x[..., None] - torch.lgamma(k + 1) - torch.lgamma(half + k) + torch.lgamma(half)
        return terms.logsumexp(dim=-1)

    def log_prob(self, z: Tensor) -> Tensor:  # (N, J, D) -> (N,)
        J, κ = z.shape[1], self.concentration
        normal = -0.5 * (z.square() + _LOG_2PI).sum(dim=(1, 2))
        length = normalize(z, dim=2).sum(dim=1).norm(dim=1)  # ‖Σⱼ uʲ‖, (N,)
        return normal - J * self.log_a(z.new_tensor(κ), κ) + self.log_a(κ * length, κ * J)

    def sample(self, n: int, views: int = 1) -> Tensor:  # (n, J, D)
        z = torch.randn_like(self.origin.expand(n, views, -1))
        μ = normalize(torch.randn_like(z[:, :1]), dim=2)
        v = normalize(z - (z * μ).sum(dim=2, keepdim=True) * μ, dim=2)  # a uniform direction at right angles to μ
        w = self.cosines((n, views))[..., None]
        return z.norm(dim=2, keepdim=True) * (w * μ + (1 - w.square()).clamp(min=0).sqrt() * v)

    def cosines(self, shape: tuple[int, ...]) -> Tensor:
        """μ·u of the von Mises-Fisher distribution, by rejection (Wood 1994)."""
        m, κ = len(self.origin) - 1, self.concentration
        b = m / (2 * κ + math.sqrt(4 * κ**2 + m**2))
        x = (1 - b) / (1 + b)
        c = κ * x + m * math.log(1 - x**2) if κ else 0.0
        half = self.origin.new_tensor(m / 2)
        w, missing = self.origin.new_zeros(shape), torch.ones(shape, dtype=torch.bool, device=self.origin.device)
        while missing.any():
            ε = torch.distributions.Beta(half, half).sample(missing.shape)
            candidate = (1 - (1 + b) * ε) / (1 - (1 - b) * ε)
            accepted = κ * candidate + m * (1 - x * candidate).log() - c >= torch.rand_like(ε).log()
            w = torch.where(missing & accepted, candidate, w)
            missing = missing & ~accepted
        return w
