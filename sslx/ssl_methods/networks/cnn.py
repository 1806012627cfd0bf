from torch import Tensor, nn

from sslx.api import Context, Encoder, option


class CNNEncoder(Encoder):
    """A network like LeNet for small images: convolutions 5x5 by 2, 3x3 and 3x3, and a fully connected layer."""

    channels_last = True

    widths: tuple[int, int, int] = option(default=(16, 32, 64), gt=0, help="Channels of the three convolutions.")
    hidden: int = option(default=128, gt=0, help="Width of the fully connected layer.")

    def build(self, ctx: Context) -> Context:
        C, _, _ = ctx.image_shape
        a, b, c = self.widths
        self.layers = nn.Sequential(
            nn.Conv2d(C, a, 5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(a, b, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(b, c, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveMaxPool2d(3),
            nn.Flatten(),
            nn.Linear(9 * c, self.hidden),
            nn.ReLU(inplace=True),
        )
        return self.head(ctx, self.hidden)

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x)
