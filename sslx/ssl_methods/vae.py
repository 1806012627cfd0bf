"""The variational autoencoder, for any number of related views."""

from __future__ import annotations

from torch import Tensor

from sslx.api import Decoder, Encoder, Method, Prior, Terms, Views, slot


class VAE(Method):
    """Maximises E_q[Σⱼ log p(xʲ|zʲ) + log p(z¹…zᴶ|y)] + Σⱼ H[q(zʲ|xʲ)], per view, with one sample of q.

    With the prior N(0, I) this is the VAE (Kingma & Welling 2014); the prior alone makes it another method.
    The entropy is maximised: SimVAE's Algorithm 1 prints its sign wrongly.
    """

    encoder: Encoder = slot(default="mlp", help="q(z|x)")
    decoder: Decoder = slot(default="mlp", help="p(x|z)")
    prior: Prior = slot(default="standard-normal", help="p(z¹…zᴶ|y)")

    def forward(self, views: Views) -> Terms:
        x = views.flat  # (B, C, H, W)
        q = self.encoder(x)
        z = q.rsample()  # (B, D)
        return Terms(
            reconstruction=-self.decoder(z).log_prob(x).mean(),
            entropy=-q.entropy().mean(),
            prior=-self.prior.log_prob(views.group(z)).mean() / views.count,
        )

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> what the decoder makes of the representation, (B, C, H, W)."""
        return self.decoder(self.encoder(x).mean).mean

    def sample(self, n: int) -> Tensor:
        """n images drawn from the model, (n, C, H, W)."""
        return self.decoder(self.prior.sample(n)).mean
