from sslx.api import VAE


class BetaVAE(VAE, beta=1.2):
    """The VAE with a larger weight β > 1 on the prior (Higgins et al. 2017, Eq. 4). SimVAE compares with β = 1.2."""
