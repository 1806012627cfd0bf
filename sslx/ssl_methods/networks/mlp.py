import math
from typing import Literal

from torch import Tensor, nn
from torch.distributions import Distribution

from sslx.api import Context, Decoder, Encoder, activation, option, resized


def mlp(widths: tuple[int, ...], slope: float = 0.0, norm: str = "none") -> nn.Sequential:
    """Linear layers of the given widths, each followed by an activation and, if `norm` is "batch", normalized first."""
    layers: list[nn.Module] = []
    for features, width in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(features, width, bias=norm != "batch")]  # the normalization has a bias
        layers += [nn.BatchNorm1d(width)] * (norm == "batch") + [activation(slope)]
    return nn.Sequential(*layers)


class MLPEncoder(Encoder):
    """Fully connected layers (SimVAE, Table 3a: 784-500-500-2000-D; its code has 2000-500-500).

    GEDI's points have `hidden=100,100`, and `norm=batch` for Barlow Twins and SwAV (App. K).

    Images of another size than the views are scaled to it.
    """

    hidden: tuple[int, ...] = option(default=(500, 500, 2000), gt=0, help="Widths of the hidden layers.")
    slope: float = option(default=0.0, ge=0, lt=1, help="Slope of the activation for negative inputs; 0 is ReLU.")
    norm: Literal["batch", "none"] = option(default="none", help="Normalization before each activation.")

    def build(self, ctx: Context) -> Context:
        self.size = ctx.image_shape[1:]
        widths = (math.prod(ctx.image_shape), *self.hidden)
        self.layers = mlp(widths, self.slope, self.norm)
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
