import math

from torch import Tensor, nn
from torch.distributions import Distribution

from sslx.api import Context, Decoder, Encoder, activation, option, resized


def mlp(widths: tuple[int, ...], slope: float = 0.0) -> nn.Sequential:
    """Linear layers of the given widths, each followed by an activation."""
    layers: list[nn.Module] = []
    for features, width in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(features, width), activation(slope)]
    return nn.Sequential(*layers)


class MLPEncoder(Encoder):
    """Fully connected layers (SimVAE, Table 3a: 784-500-500-2000-D; its code has 2000-500-500).

    Images of another size than the views are scaled to it.
    """

    hidden: tuple[int, ...] = option(default=(500, 500, 2000), gt=0, help="Widths of the hidden layers.")
    slope: float = option(default=0.0, ge=0, lt=1, help="Slope of the activation for negative inputs; 0 is ReLU.")

    def build(self, ctx: Context) -> Context:
        self.size = ctx.image_shape[1:]
        widths = (math.prod(ctx.image_shape), *self.hidden)
        self.layers = mlp(widths, self.slope)
        return self.head(ctx, widths[-1])

    def features(self, x: Tensor) -> Tensor:
        return self.layers(resized(x, self.size).flatten(1))


class MLPDecoder(Decoder):
    """Fully connected layers (SimVAE, Table 3b: D-2000-500-500-784)."""

    hidden: tuple[int, ...] = option(default=(2000, 500, 500), gt=0, help="Widths of the hidden layers.")

    def build(self, ctx: Context) -> Context:
        self.shape = ctx.image_shape
        widths = (ctx.latent, *self.hidden)
        self.layers = mlp(widths)
        self.pixels = nn.Linear(widths[-1], math.prod(self.shape))
        return self.likelihood.build(ctx)

    def forward(self, z: Tensor) -> Distribution:
        return self.likelihood(self.pixels(self.layers(z)).unflatten(1, self.shape))
