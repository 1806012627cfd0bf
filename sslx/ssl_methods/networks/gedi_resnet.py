"""The residual network of GEDI's Table 8. It has no normalization, so that a density depends on one image alone."""

from typing import Literal

from torch import Tensor, nn

from sslx.api import Context, Encoder, option

_SLOPE = 0.2


def batch_norm(width: int, norm: str) -> list[nn.Module]:
    return [nn.BatchNorm2d(width)] if norm == "batch" else []


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut, followed by pooling that halves the size if `pool`."""

    def __init__(self, channels: int, width: int, first: bool, pool: bool, norm: str) -> None:
        super().__init__()
        before = [] if first else [nn.LeakyReLU(_SLOPE)]  # no activation of the image itself
        after = nn.Conv2d(width, width, 3, padding=1)
        layers = [nn.Conv2d(channels, width, 3, padding=1), *batch_norm(width, norm), nn.LeakyReLU(_SLOPE), after]
        self.residual = nn.Sequential(*before, *layers, *batch_norm(width, norm))
        self.shortcut: nn.Module = nn.Conv2d(channels, width, 1) if first else nn.Identity()
        self.pool: nn.Module = nn.AvgPool2d(2, ceil_mode=True) if pool else nn.Identity()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.xavier_uniform_(layer.weight, gain=1.0 if first and layer is not after else 2**0.5)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.residual(x)) + self.shortcut(self.pool(x))


class ResNet8Encoder(Encoder):
    """Four blocks of two 3x3 convolutions without normalization, the first two halving the size (GEDI, Table 8).

    For Barlow Twins and SwAV the paper normalizes all layers, without further details (App. L): `norm=batch`.
    """

    channels_last = True

    width: int = option(default=128, gt=0, help="Channels (F); 128 on SVHN and CIFAR-10, 256 on CIFAR-100.")
    norm: Literal["batch", "none"] = option(default="none", help="Normalization after each 3x3 convolution.")

    def build(self, ctx: Context) -> Context:
        C, F, norm = ctx.image_shape[0], self.width, self.norm
        self.layers = nn.Sequential(
            Block(C, F, first=True, pool=True, norm=norm),
            Block(F, F, first=False, pool=True, norm=norm),
            Block(F, F, first=False, pool=False, norm=norm),
            Block(F, F, first=False, pool=False, norm=norm),
            nn.LeakyReLU(_SLOPE),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        return self.head(ctx, F)

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x)
