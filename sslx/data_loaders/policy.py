"""The standard views: random resized crop, flips, colour jitter, grey.

First all parameters are drawn, then they are applied. The draws are a pure function of (seed, epoch, index, view), made
on the CPU in float64: they are few, and so they are the same for every device. The application below is batched torch
for any device, and what every other backend is tested against.
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor

from sslx.api import ConfigError, Use, ViewPolicy, Views, key, option, uniform
from sslx.data_loaders.colour import desaturate, jitter
from sslx.data_loaders.resample import resample, weights

# The position of each quantity among the draws of a view. Fixed, so that switching one option on leaves the numbers of
# the others as they were. Add new ones at the end.
_AREA = slice(0, 10)  # ten tries of a crop that fits, as in torchvision
_RATIO = slice(10, 20)
_CORNER = slice(20, 22)
_HFLIP, _VFLIP, _JITTER = 22, 23, 24
_FACTORS = slice(25, 28)
_ORDER = slice(28, 31)
_GREY = 31
_DRAWS = 32


class Standard(ViewPolicy):
    """Views as torchvision's RandomResizedCrop, flips, ColorJitter and RandomGrayscale make them, in this order.

    Every view has parameters of its own. All is off by default; a crop is resized to the size of the image. Images of
    one channel have no saturation and are grey already.
    """

    crop: tuple[float, float] = option(
        default=(1.0, 1.0), gt=0, le=1, help="range of a crop's share of the image area; (1, 1) is no crop"
    )
    ratio: tuple[float, float] = option(
        default=(3 / 4, 4 / 3), gt=0, help="range of a crop's width over height, before it is resized"
    )
    hflip: float = option(default=0.0, ge=0, le=1, help="probability of swapping left and right")
    vflip: float = option(default=0.0, ge=0, le=1, help="probability of swapping top and bottom")
    brightness: float = option(default=0.0, ge=0, help="v: the factor is uniform in [max(0, 1 - v), 1 + v]")
    contrast: float = option(default=0.0, ge=0, help="as brightness")
    saturation: float = option(default=0.0, ge=0, help="as brightness; colour images only")
    jitter: float = option(default=1.0, ge=0, le=1, help="probability of brightness, contrast and saturation together")
    grey: float = option(default=0.0, ge=0, le=1, help="probability of removing all colour")

    def __attrs_post_init__(self) -> None:
        problems = [
            f"{name}: expected the smaller number first, got ({low:g}, {high:g})"
            for name, (low, high) in {"crop": self.crop, "ratio": self.ratio}.items()
            if low > high
        ]
        if problems:
            raise ConfigError(problems)

    @property
    def crops(self) -> bool:
        return self.crop != (1.0, 1.0)

    @property
    def strengths(self) -> tuple[float, float, float]:
        return self.brightness, self.contrast, self.saturation

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int) -> Views:
        """(N, C, H, W) uint8 images and their (N,) positions in the dataset -> their views.

        The views are made where the images are. An index on the CPU spares waiting for another device.
        """
        original = images.float() / 255
        parameters = sample(self, index, (images.shape[-2], images.shape[-1]), seed, epoch).to(images.device)
        return Views(x=apply(self, original, parameters), original=original, index=index.to(images.device))


@attrs.frozen(eq=False, slots=False)
class Parameters:
    """What is done to each view: tensors of (N, J), or (N, J, 3) where there is one of each adjustment of colour."""

    top: Tensor  # the crop, in whole pixels of the image
    left: Tensor
    height: Tensor
    width: Tensor
    hflip: Tensor
    vflip: Tensor
    factors: Tensor  # of brightness, contrast, saturation; 1 changes nothing
    order: Tensor  # which of the three is first, second, third
    grey: Tensor

    def to(self, device: torch.device) -> Parameters:
        """The same on `device`."""
        return Parameters(**{name: values.to(device, non_blocking=True) for name, values in vars(self).items()})


def sample(policy: Standard, index: Tensor, shape: tuple[int, int], seed: int, epoch: int) -> Parameters:
    """Draw the parameters of the views of (N,) samples, of images of (H, W). They are on the CPU."""
    view = torch.arange(policy.count)
    draws = uniform(key(Use.VIEWS, seed, epoch, index.cpu()[:, None], view), _DRAWS).double()  # (N, J, 32)
    corner, size = _boxes(policy, draws, shape)
    strengths = torch.tensor(policy.strengths, dtype=torch.float64)
    factors = _between(draws[..., _FACTORS], (1 - strengths).clamp(min=0), 1 + strengths)
    factors = torch.where(draws[..., _JITTER, None] < policy.jitter, factors, 1)
    return Parameters(
        top=corner[..., 0],
        left=corner[..., 1],
        height=size[..., 0],
        width=size[..., 1],
        hflip=draws[..., _HFLIP] < policy.hflip,
        vflip=draws[..., _VFLIP] < policy.vflip,
        factors=factors.float(),
        order=draws[..., _ORDER].argsort(dim=-1, stable=True),
        grey=draws[..., _GREY] < policy.grey,
    )


def _between(draws: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    return low + (high - low) * draws


def _boxes(policy: Standard, draws: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Corner and size of each crop, (N, J, 2) int64 each, by the law of torchvision's RandomResizedCrop."""
    image = torch.tensor(shape)
    if not policy.crops:
        size = image.expand(*draws.shape[:2], 2)
        return torch.zeros_like(size), size
    area = shape[0] * shape[1] * _between(draws[..., _AREA], *policy.crop)  # (N, J, tries)
    ratio = _between(draws[..., _RATIO], *map(math.log, policy.ratio)).exp()
    sizes = torch.stack([area / ratio, area * ratio], dim=-1).sqrt().round().long()  # (N, J, tries, 2)
    fits = ((sizes > 0) & (sizes <= image)).all(dim=-1)  # (N, J, tries)
    first = fits.long().argmax(dim=-1)[..., None, None].expand(-1, -1, 1, 2)
    size = sizes.gather(2, first).squeeze(2)
    corner = (draws[..., _CORNER] * (image - size + 1)).long()
    fitted, central = fits.any(dim=-1, keepdim=True), torch.tensor(_central(shape, policy.ratio))
    return torch.where(fitted, corner, (image - central) // 2), torch.where(fitted, size, central)


def _central(shape: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    """Size of the crop where no try fitted: the largest within the range of ratios."""
    height, width = shape
    if width < height * ratio[0]:
        return max(1, round(width / ratio[0])), width
    if width > height * ratio[1]:
        return height, max(1, round(height * ratio[1]))
    return height, width


def apply(policy: Standard, images: Tensor, parameters: Parameters) -> Tensor:
    """(N, C, H, W) floats in [0, 1] -> their views, (N, J, C, H, W), skipping what the policy never does."""
    p, (channels, height, width) = parameters, images.shape[1:]
    if policy.crops or policy.hflip or policy.vflip:
        wy = weights(p.top, p.height, p.vflip, height, height)
        wx = weights(p.left, p.width, p.hflip, width, width)
        x = resample(images, wy, wx).clamp_(0, 1)  # sums of weights can exceed 1 by rounding
    else:
        x = images[:, None].repeat(1, policy.count, 1, 1, 1)
    if policy.jitter and any(policy.strengths):
        x = jitter(x, p.factors, p.order)
    if policy.grey and channels == 3:
        x = desaturate(x, p.grey)
    return x
