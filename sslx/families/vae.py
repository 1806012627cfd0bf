from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

from sslx.core.public import Clusters, Encoder, Prior, Term, Terms, Views, can, option, resized, slot
from sslx.families.autoencoder import Autoencoder


class VAE(Autoencoder):
    """The variational autoencoder: an autoencoder whose latents follow a prior (Kingma & Welling 2014).

        maximize E_q[Σⱼ log p(xʲ|zʲ) + β log p(z¹…zᴶ|y)] + β w Σⱼ H[q(zʲ|xʲ)]

    This is per view, with one sample of q. Other priors than N(0, I) make it another method, such as SimVAE. The
    entropy is maximized: its sign in Algorithm 1 of SimVAE is a misprint. SimVAE's released code has w = 2π.
    """

    defaults = {}

    encoder: Encoder = slot(default="mlp", help="Network that gives the approximate posterior, q(z|x).")
    prior: Prior = slot(default="standard-normal", help="Distribution of the latents of related views, p(z¹…zᴶ|y).")
    beta: float = option(default=1.0, ge=0, help="Weight of the divergence of q from the prior (β).")
    entropy_weight: float = option(default=1.0, ge=0, help="Additional weight of the entropy of q (w).")

    def forward(self, views: Views) -> Terms:
        return self.bound(views, self.encoder(views.flat))

    def bound(self, views: Views, q: Distribution) -> Terms:
        """The negative evidence lower bound of views whose posterior is q, with batch (B,) and event (D,)."""
        z = q.rsample()  # (B, D)
        return Terms(
            reconstruction=self.reconstruction(views, z),
            entropy=Term(-q.entropy().mean(), self.beta * self.entropy_weight),
            prior=Term(-self.prior(views.group(z)).mean() / views.count, self.beta),
        )

    def sample(self, n: int) -> Tensor:
        """n new images, (n, C, H, W), from the prior if it is proper and has a weight, else as an `Autoencoder`."""
        if self.prior.proper and self.beta:
            return self.decode(self.prior.sample(n)[:, 0])
        return super().sample(n)

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> lower bounds on log p(x), by one sample of q, (B,); up to a constant if p(z) is improper."""
        q = self.encoder(x)
        z = q.rsample()
        return self.decoder(z).log_prob(resized(x, self.size)) + self.prior(z[:, None]) - q.log_prob(z)

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> log-probabilities of the clusters of the prior, (B, K). Only if the prior has clusters."""
        assert can(self.prior, Clusters), "`lacks` says so"
        return self.prior.cluster(self.encoder(x).mean[:, None])

    def lacks(self) -> set[type]:
        return set() if can(self.prior, Clusters) else {Clusters}
