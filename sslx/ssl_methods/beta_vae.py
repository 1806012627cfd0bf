"""β-VAE."""

from __future__ import annotations

from sslx.api import VAE, option


class BetaVAE(VAE):
    """The VAE with β > 1: a latent closer to the prior (Higgins et al. 2017, Eq. 4). SimVAE compares with β = 1.2."""

    beta: float = option(default=1.2, ge=0, help="β, weight of the divergence of q from the prior")
