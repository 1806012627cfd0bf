"""The small residual networks of SimVAE's Table 4, for images of any size."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.distributions import Distribution

from sslx.api import Context, Decoder, Encoder, option


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation beside a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


def stage(channels: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [BasicBlock(channels, width, stride), BasicBlock(width, width)]


class SmallResNetEncoder(Encoder):
    """SimVAE, Table 4a: a 4x4 convolution, pooling, and stages of two blocks, halving from the second stage on."""

    widths: tuple[int, ...] = option(default=(16, 32, 64, 128, 256), gt=0, help="channels of the stem and the stages")

    def build(self, ctx: Context) -> Context:
        C, H, W = ctx.image_shape
        stem, *widths = self.widths
        layers: list[nn.Module] = [
            nn.ZeroPad2d((1, 2, 1, 2)),  # an even kernel: one more on the right, to keep the size
            nn.Conv2d(C, stem, 4, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        channels, sides = stem, (math.ceil(H / 2), math.ceil(W / 2))
        for i, width in enumerate(widths):
            layers += stage(channels, width, stride=1 if i == 0 else 2)
            channels = width
            if i > 0:
                sides = (math.ceil(sides[0] / 2), math.ceil(sides[1] / 2))
        self.layers = nn.Sequential(*layers, nn.Flatten())
        return self.head(ctx, channels * sides[0] * sides[1])

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x)


class SmallResNetDecoder(Decoder):
    """SimVAE, Table 4b: stages that double the size, each two blocks, then a 5x5 convolution.

    Sizes that are no multiple of 2^stages are decoded at the next multiple and cropped in the middle.
    """

    widths: tuple[int, ...] = option(default=(256, 128, 64, 32, 16), gt=0, help="channels at the start and of stages")

    def build(self, ctx: Context) -> Context:
        C, H, W = self.shape = ctx.image_shape
        factor = 2 ** (len(self.widths) - 1)
        self.start = (self.widths[0], math.ceil(H / factor), math.ceil(W / factor))
        self.enlarge = nn.Linear(ctx.latent, math.prod(self.start))
        layers: list[nn.Module] = []
        for channels, width in zip(self.widths, self.widths[1:], strict=False):
            layers += [nn.Upsample(scale_factor=2), *stage(channels, width)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(self.widths[-1], C, 5, padding=2))
        return self.likelihood.build(ctx)

    def forward(self, z: Tensor) -> Distribution:
        h = self.layers(self.enlarge(z).unflatten(1, self.start))
        _, H, W = self.shape
        top, left = (h.shape[2] - H) // 2, (h.shape[3] - W) // 2
        p: Distribution = self.likelihood(h[:, :, top : top + H, left : left + W])
        return p
