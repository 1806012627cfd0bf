"""ResNets with stems for small and large images, and the decoders that mirror them (AASAE)."""

import math
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.distributions import Distribution
from torchvision.models import resnet

from sslx.api import ConfigError, Context, Decoder, Encoder, option

Stem = Literal["small", "medium", "imagenet"]


class ResNetEncoder(Encoder):
    """A ResNet (He et al. 2016) from torchvision, without its classifier.

    The stems are AASAE's on CIFAR-10 (3x3), STL-10 (7x7 by 2) and ImageNet (and pooling; `posterior.projection=2048`).
    """

    channels_last = True
    depth: ClassVar[int]

    stem: Stem = option(default="small", help="First layers, for images of about 32, 96 or 224 pixels.")

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
        """The weights have the same names in torchvision and timm, which only has the stem of ImageNet."""
        if self.stem != "imagenet":
            raise ConfigError(f"timm only has ResNets with the stem imagenet, this one has {self.stem}")
        config = {"architecture": f"resnet{self.depth}", "pretrained_cfg": {"classifier": "fc"}}
        return config, self.network.state_dict()


class ResNet18Encoder(ResNetEncoder):
    """A ResNet-18: four stages of two basic blocks (He et al. 2016)."""

    depth = 18


class ResNet34Encoder(ResNetEncoder):
    """A ResNet-34: stages of three, four, six and three basic blocks (He et al. 2016)."""

    depth = 34


class ResNet50Encoder(ResNetEncoder):
    """A ResNet-50: stages of three, four, six and three bottlenecks (He et al. 2016)."""

    depth = 50


class Block(nn.Module):
    """A residual block without normalization: two 3x3 convolutions, or a bottleneck, a 3x3 between two 1x1 ones."""

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
    """A reversed ResNet without normalization: D-2048-2048, then 4x4 pixels that the stages enlarge (AASAE).

    Nearest neighbours enlarge to the sizes of the encoder with the same stem. AASAE has `likelihood.mean=linear`.
    """

    channels_last = True
    blocks: ClassVar[tuple[int, ...]]  # of each stage
    expansion: ClassVar[int]  # of a block's width to its output, more than 1 in a bottleneck

    stem: Stem = option(default="small", help="Stem of the encoder that it mirrors.")

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
        return self.likelihood(self.layers(self.enlarge(z).unflatten(1, self.start)))


class ResNet18Decoder(ResNetDecoder):
    """A reversed ResNet-18: four stages of two basic blocks (AASAE)."""

    blocks, expansion = (2, 2, 2, 2), 1


class ResNet34Decoder(ResNetDecoder):
    """A reversed ResNet-34: stages of three, six, four and three basic blocks (AASAE)."""

    blocks, expansion = (3, 6, 4, 3), 1


class ResNet50Decoder(ResNetDecoder):
    """A reversed ResNet-50: stages of three, six, four and three bottlenecks (AASAE)."""

    blocks, expansion = (3, 6, 4, 3), 4
