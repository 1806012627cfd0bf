"""The small residual networks of SimVAE's Table 4, for images of any size."""

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.distributions import Distribution

from sslx.api import Context, Decoder, Encoder, option, resized


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization and a shortcut (He et al. 2016)."""

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
    """A narrow ResNet: a 4x4 convolution, pooling and stages of two blocks, later ones halving (SimVAE, Table 4a).

    Images of another size than the views are scaled to it.
    """

    channels_last = True

    widths: tuple[int, ...] = option(default=(16, 32, 64, 128, 256), gt=0, help="Channels of the stem and the stages.")

    def build(self, ctx: Context) -> Context:
        C, H, W = ctx.image_shape
        self.size = (H, W)
        stem = self.widths[0]
        layers: list[nn.Module] = [
            nn.ZeroPad2d((1, 2, 1, 2)),  # one more on the right, as an even kernel needs to keep the size
            nn.Conv2d(C, stem, 4, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        for i, (channels, width) in enumerate(pairwise(self.widths)):
            layers += stage(channels, width, stride=1 if i == 0 else 2)
        self.layers = nn.Sequential(*layers, nn.Flatten())
        shrunk = 2 ** max(1, len(self.widths) - 1)  # by the pooling and by each stage after the first
        return self.head(ctx, self.widths[-1] * math.ceil(H / shrunk) * math.ceil(W / shrunk))

    def features(self, x: Tensor) -> Tensor:
        return self.layers(resized(x, self.size))


class SmallResNetDecoder(Decoder):
    """A narrow ResNet: stages of two blocks that double the size, and a 5x5 convolution (SimVAE, Table 4b).

    A size that is not a multiple of 2^stages is decoded at the next multiple and cropped in the middle.
    """

    channels_last = True

    widths: tuple[int, ...] = option(default=(256, 128, 64, 32, 16), gt=0, help="Channels of the stages.")

    def build(self, ctx: Context) -> Context:
        C, H, W = self.shape = ctx.image_shape
        factor = 2 ** (len(self.widths) - 1)
        self.start = (self.widths[0], math.ceil(H / factor), math.ceil(W / factor))
        self.enlarge = nn.Linear(ctx.latent, math.prod(self.start))
        layers: list[nn.Module] = []
        for channels, width in pairwise(self.widths):
            layers += [nn.Upsample(scale_factor=2), *stage(channels, width)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(self.widths[-1], C, 5, padding=2))
        return self.likelihood.build(ctx)

    def forward(self, z: Tensor) -> Distribution:
        h = self.layers(self.enlarge(z).unflatten(1, self.start))
        _, H, W = self.shape
        top, left = (h.shape[2] - H) // 2, (h.shape[3] - W) // 2
        return self.likelihood(h[:, :, top : top + H, left : left + W])
