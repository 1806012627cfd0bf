"""The variational autoencoder, for any number of related views, and the methods that weigh its terms otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.distributions import Distribution

from sslx.core.public import Clusters, Encoder, Prior, Term, Terms, Views, can, option, slot
from sslx.families.autoencoder import Autoencoder


class VAE(Autoencoder):
    """Maximises E_q[Σⱼ log p(xʲ|zʲ) + β log p(z¹…zᴶ|y)] + β w Σⱼ H[q(zʲ|xʲ)], per view, with one sample of q.

    With the prior N(0, I) this is the VAE (Kingma & Welling 2014); the prior alone makes it another method.
    The entropy is maximised: SimVAE's Algorithm 1 prints its sign wrongly, and its released code has w = 2π.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}

    encoder: Encoder = slot(default="mlp", help="q(z|x)")
    prior: Prior = slot(default="standard-normal", help="p(z¹…zᴶ|y)")
    beta: float = option(default=1.0, ge=0, help="β, weight of the divergence of q from the prior")
    entropy_weight: float = option(default=1.0, ge=0, help="w, further weight of the entropy alone")

    def forward(self, views: Views) -> Terms:
        return self.bound(views, self.encoder(views.flat))

    def bound(self, views: Views, q: Distribution) -> Terms:
        """The negative evidence lower bound of views with the posterior q, batch (B,) and event (D,)."""
        z = q.rsample()  # (B, D)
        return Terms(
            reconstruction=self.reconstruction(views, z),
            entropy=Term(-q.entropy().mean(), self.beta * self.entropy_weight),
            prior=Term(-self.prior(views.group(z)).mean() / views.count, self.beta),
        )

    def sample(self, n: int) -> Tensor:
        """n new images, (n, C, H, W), from the prior if it is proper and was trained with, else as an autoencoder."""
        if self.prior.proper and self.beta:
            return self.decode(self.prior.sample(n)[:, 0])
        return super().sample(n)

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> a lower bound on log p(x) of each single image, with one sample of q, (B,).

        Up to a constant, if the prior is improper.
        """
        q = self.encoder(x)
        z = q.rsample()
        return self.decoder(z).log_prob(x) + self.prior(z[:, None]) - q.log_prob(z)

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> log-probabilities of the prior's clusters, (B, K). Only if the prior has clusters."""
        assert can(self.prior, Clusters), "`lacks` says so"
        return self.prior.cluster(self.encoder(x).mean[:, None])

    def lacks(self) -> set[type]:
        return set() if can(self.prior, Clusters) else {Clusters}
