"""Autoencoders without a prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor

from sslx.core.public import ConfigError, Context, Decoder, Encoder, Method, Terms, Views, option, slot
from sslx.families.aggregate import Aggregate


class Autoencoder(Method):
    """Minimises -log p(x*|z), z ~ q(z|xʲ), over views xʲ of an image; the target x* is the view itself.

    AASAE compares with it without any augmentation, which is `--set views=standard`. It has no prior to sample from:
    the latents of new images are drawn from the normal distribution with the moments of those of training.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"views": {"count": 1}}

    encoder: Encoder = slot(default="mlp", posterior="delta", help="z = f(x)")
    decoder: Decoder = slot(default="mlp", help="p(x|z)")
    target: Literal["view", "original"] = option(default="view", help="x*, what is to be reconstructed from a view")
    representation: Literal["latent", "features"] = option(
        default="latent", help="what is evaluated: the mean of q, or the encoder's last layer below q, as in AASAE"
    )

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        if self.representation == "features" and type(self.encoder).features is Encoder.features:
            raise ConfigError(f"representation: {type(self.encoder).__name__} has no features, expected latent")
        self.latents = Aggregate(ctx.latent)
        return ctx

    def forward(self, views: Views) -> Terms:
        return Terms(reconstruction=self.reconstruction(views, self.encoder(views.flat).rsample()))

    def reconstruction(self, views: Views, z: Tensor) -> Tensor:
        """The mean of -log p(x*|z) over latents of all views, (B, D)."""
        self.latents.update(z)
        x = views.flat if self.target == "view" else views.original.repeat_interleave(views.count, dim=0)
        return -self.decoder(z).log_prob(x).mean()

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean if self.representation == "latent" else self.encoder.features(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> what the decoder makes of the mean of q, (B, C, H, W)."""
        return self.decode(self.encoder(x).mean)

    def decode(self, z: Tensor) -> Tensor:
        """(B, D) -> the mean of p(x|z), (B, C, H, W)."""
        return self.decoder(z).mean

    def sample(self, n: int) -> Tensor:
        """n new images, (n, C, H, W)."""
        return self.decode(self.latents.sample(n))
