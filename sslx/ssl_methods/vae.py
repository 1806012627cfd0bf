"""The variational autoencoder, for any number of related views, and the methods that weigh its terms otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.distributions import Distribution

from sslx.api import Encoder, Prior, Term, Terms, Views, option, slot
from sslx.ssl_methods.autoencoder import Autoencoder


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

    @property
    def cluster(self) -> Callable[[Tensor], Tensor]:
        """(B, C, H, W) -> log-probabilities of the prior's clusters, (B, K). Only there if the prior has clusters."""
        log_p: Any = self.prior.cluster
        return lambda x: log_p(self.encoder(x).mean[:, None])


class BetaVAE(VAE):
    """The VAE with β > 1: a latent closer to the prior (Higgins et al. 2017, Eq. 4). SimVAE compares with β = 1.2."""

    beta: float = option(default=1.2, ge=0, help="β, weight of the divergence of q from the prior")


class AASAE(VAE):
    """-log p(x|z), z ~ q(z|x⁺), x⁺ an augmented view of x: noise and augmentation without a prior (AASAE, Eq. 3).

    Eq. 3 lacks the minus sign. The paper's views are `views=aasae`, its networks the `resnet50` with
    `encoder.posterior.projection=2048` and `encoder.dim=128`, and it evaluates `representation=features`.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"views": {"count": 1}}

    target: Literal["view", "original"] = option(default="original", help="x*, what is to be reconstructed from a view")
    beta: float = option(default=0.0, ge=0, help="β, weight of the divergence of q from the prior")
