"""The residual networks of ImageNet with stems for smaller images, and the decoders that mirror them (AASAE)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.distributions import Distribution
from torchvision.models import resnet

from sslx.api import ConfigError, Context, Decoder, Encoder, option

Stem = Literal["small", "medium", "imagenet"]


class ResNetEncoder(Encoder):
    """A ResNet (He et al. 2016) as torchvision has it, without its classifier.

    The stems are those of AASAE on CIFAR-10, STL-10 and ImageNet, where `posterior.projection=2048` follows.
    """

    depth: ClassVar[int]

    stem: Stem = option(
        default="small", help="small: 3x3, for 32 pixels; medium: 7x7 by twos, for 96; imagenet: and a pooling, for 224"
    )

    def build(self, ctx: Context) -> Context:
        self.network: nn.Module = (network := getattr(resnet, f"resnet{self.depth}")())
        size, stride = (3, 1) if self.stem == "small" else (7, 2)
        network.conv1 = nn.Conv2d(ctx.image_shape[0], 64, size, stride, padding=size // 2, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        if self.stem != "imagenet":
            network.maxpool = nn.Identity()
        features, network.fc = network.fc.in_features, nn.Identity()
        return self.head(ctx, features)

    def features(self, x: Tensor) -> Tensor:
        return self.network(x)

    def timm(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """torchvision and timm name the weights alike; timm has no other stem than that of ImageNet."""
        if self.stem != "imagenet":
            raise ConfigError(f"timm has a ResNet with the stem imagenet alone, this one is {self.stem}")
        return {
            "architecture": f"resnet{self.depth}",
            "pretrained_cfg": {"classifier": "fc"},
        }, self.network.state_dict()


class ResNet18Encoder(ResNetEncoder):
    """Four stages of two basic blocks."""

    depth = 18


class ResNet34Encoder(ResNetEncoder):
    """Stages of three, four, six and three basic blocks."""

    depth = 34


class ResNet50Encoder(ResNetEncoder):
    """Stages of three, four, six and three bottlenecks."""

    depth = 50


class Block(nn.Module):
    """A residual block without normalisation: two 3x3 convolutions, or a 3x3 one between two of 1x1, a bottleneck."""

    def __init__(self, channels: int, width: int, expansion: int) -> None:
        super().__init__()
        sizes = (3, 3) if expansion == 1 else (1, 3, 1)
        widths = (channels, *(width for _ in sizes[1:]), width * expansion)
        layers: list[nn.Module] = []
        for size, before, after in zip(sizes, widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, size, padding=size // 2), nn.ReLU(inplace=True)]
        self.residual = nn.Sequential(*layers[:-1])
        same = channels == widths[-1]
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(channels, widths[-1], 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, h: Tensor) -> Tensor:
        return self.relu(self.residual(h) + self.shortcut(h))


class ResNetDecoder(Decoder):
    """A ResNet backwards and without normalisation: D-2048-2048, then 4x4 pixels that the stages enlarge (AASAE).

    Enlarging is by nearest neighbours, to the sizes that the encoder with the same stem has on its way down.
    AASAE has no sigmoid at the end: `likelihood.mean=linear`.
    """

    blocks: ClassVar[tuple[int, ...]]  # of each stage
    expansion: ClassVar[int]  # of a block's width to its output, more than 1 in a bottleneck

    stem: Stem = option(default="small", help="of the encoder that it mirrors")

    def build(self, ctx: Context) -> Context:
        C, H, W = ctx.image_shape
        halvings = {"small": 0, "medium": 1, "imagenet": 2}[self.stem]  # before the first stage of the encoder
        sizes = [(math.ceil(H / 2**k), math.ceil(W / 2**k)) for k in range(halvings + 3, halvings - 1, -1)]
        self.start = (128, min(4, sizes[0][0]), min(4, sizes[0][1]))
        self.enlarge = nn.Sequential(
            nn.Linear(ctx.latent, 2048), nn.ReLU(inplace=True), nn.Linear(2048, math.prod(self.start)), nn.ReLU()
        )
        channels = 512 * self.expansion
        layers: list[nn.Module] = [nn.Conv2d(128, channels, 1)]
        for width, blocks, size in zip((256, 128, 64, 32), self.blocks, sizes, strict=True):
            layers.append(nn.Upsample(size))
            for _ in range(blocks):
                layers.append(Block(channels, width, self.expansion))
                channels = width * self.expansion
        layers += [nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU(inplace=True), nn.Upsample((H, W))]
        self.layers = nn.Sequential(*layers, nn.Conv2d(64, C, 3, padding=1))
        return self.likelihood.build(ctx)

    def forward(self, z: Tensor) -> Distribution:
        p: Distribution = self.likelihood(self.layers(self.enlarge(z).unflatten(1, self.start)))
        return p


class ResNet18Decoder(ResNetDecoder):
    """Four stages of two basic blocks."""

    blocks, expansion = (2, 2, 2, 2), 1


class ResNet34Decoder(ResNetDecoder):
    """Stages of three, six, four and three basic blocks."""

    blocks, expansion = (3, 6, 4, 3), 1


class ResNet50Decoder(ResNetDecoder):
    """Stages of three, six, four and three bottlenecks."""

    blocks, expansion = (3, 6, 4, 3), 4
