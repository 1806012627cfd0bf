import torch
from torch import Tensor, nn

from sslx.api import ConfigError, Context, Decoder, Encoder, Method, Terms, Views, resized, slot

# From RGB in [0, 1] to luma and the two chroma of ITU-R BT.601; chroma are in [-0.5, 0.5].
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class Colorization(Method):
    """Predicts the colour of every pixel from the grey image (Zhang et al. 2016).

        minimize -log p(c|z), z = f(x)

    c is the colour of the image, x the image without it.

    Any decoder and likelihood can regress the colour (Eq. 1), as in Larsson et al. 2016; the best pictures of Zhang et
    al. come from a histogram for each pixel. The encoder only sees grey images.
    """

    encoder: Encoder = slot(default="mlp", posterior="delta", help="Network whose output is the representation (f).")
    decoder: Decoder = slot(default="mlp", help="Network that predicts both chroma, p(colour | z).")

    def build(self, ctx: Context) -> Context:
        C, H, W = ctx.image_shape
        if C != 3:
            raise ConfigError(f"colorization: expected colour images with 3 channels, got {C}")
        self.ycc = nn.Buffer(torch.tensor(_YCC), persistent=False)
        ctx = self.encoder.build(ctx)
        self.decoder.build(ctx.but(image_shape=(2, H, W)))
        return ctx

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """RGB (B, 3, H, W) -> grey as RGB (B, 3, H, W) and chroma in [0, 1] (B, 2, H, W)."""
        ycc = torch.einsum("kc,bchw->bkhw", self.ycc, x)
        return ycc[:, :1].expand_as(x), ycc[:, 1:] + 0.5

    def forward(self, views: Views) -> Terms:
        grey, colour = self.split(views.flat)
        return Terms(colour=-self.decoder(self.encoder(grey).mean).log_prob(colour).mean())

    def represent(self, x: Tensor) -> Tensor:
        grey, _ = self.split(x)
        return self.encoder(grey).mean

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the images in the predicted colours, (B, 3, H, W)."""
        grey, _ = self.split(x)
        chroma = resized(self.decoder(self.encoder(grey).mean).mean, x.shape[-2:]) - 0.5
        ycc = torch.cat([grey[:, :1], chroma], dim=1)
        return torch.einsum("ck,bkhw->bchw", self.ycc.inverse(), ycc).clamp(0, 1)
