from sslx.api import VAE, option


class BetaVAE(VAE):
    """The VAE with a larger weight β > 1 on the prior (Higgins et al. 2017, Eq. 4). SimVAE compares with β = 1.2."""

    beta: float = option(default=1.2, ge=0, help="Weight of the divergence of q from the prior (β).")
