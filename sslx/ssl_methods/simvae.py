"""SimVAE."""

from __future__ import annotations

from sslx.api import VAE, Prior, slot


class SimVAE(VAE):
    """The VAE whose related views come from one cluster with its mean integrated out (SimVAE, Eq. 6 and A.7.1).

    The paper has J = 10 views, 128 views a step and a learning rate of 8e-5 for 400 epochs. The defaults of a run, two
    views of 64 images and 1e-3, get further in the minutes that a CPU affords.
    """

    prior: Prior = slot(default="shared-mean", help="p(z¹…zᴶ|y)")
