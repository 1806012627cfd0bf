from __future__ import annotations

from typing import Literal

from torch import Tensor

from sslx.core.public import Context, Decoder, Encoder, Terms, Views, chunked, option, resized, slot
from sslx.families.aggregate import Aggregate
from sslx.families.encoded import Encoded


class Autoencoder(Encoded, representation="latent"):
    """Encodes an image to a latent and decodes it again, without a prior on the latents.

        minimize -log p(x*|z), z ~ q(z|x), over the views x of an image

    x* is the view itself or the original image. AASAE compares with it without augmentation, which is `--set
    views=standard`. New images are decoded from a normal distribution with the mean and covariance of the training
    latents.
    """

    defaults = {"views": {"count": 1}}

    encoder: Encoder = slot(default="mlp", posterior="delta", help="Network that gives the latent, q(z|x).")
    decoder: Decoder = slot(default="mlp", help="Network that reconstructs the image, p(x|z).")
    target: Literal["view", "original"] = option(default="view", help="Image to reconstruct from a view (x*).")

    def build(self, ctx: Context) -> Context:
        self.size = ctx.image_shape[1:]
        ctx = super().build(ctx)
        self.latents = Aggregate(ctx.latent)
        return ctx

    def forward(self, views: Views) -> Terms:
        return Terms(reconstruction=self.reconstruction(views, self.encoder(views.flat).rsample()))

    def reconstruction(self, views: Views, z: Tensor) -> Tensor:
        """The mean of -log p(x*|z) over the latents of all views, (B, D)."""
        self.latents.update(z)
        if self.target == "view":
            x = views.flat
        else:
            x = resized(views.original, self.size).repeat_interleave(views.count, dim=0)
        return -chunked(self.decoder, self.log_likelihood, z, x).mean()

    def log_likelihood(self, z: Tensor, x: Tensor) -> Tensor:
        """Latents (B, D) and images (B, C, H, W) -> log p(x|z), (B,)."""
        return self.decoder(z).log_prob(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the images decoded from the means of q(z|x), (B, C, H, W)."""
        return resized(self.decode(self.encoder(x).mean), x.shape[-2:])

    def decode(self, z: Tensor) -> Tensor:
        """(B, D) -> the mean of p(x|z), (B, C, H, W)."""
        return self.decoder(z).mean

    def sample(self, n: int) -> Tensor:
        """n new images, (n, C, H, W)."""
        return self.decode(self.latents.sample(n))
