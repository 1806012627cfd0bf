"""Likelihoods: the distribution that the output of a decoder defines."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from sslx.api import ConfigError, Context, Likelihood, Split, option


class GaussianLikelihood(Likelihood):
    """A normal distribution of each pixel, p(x|z) = N(sigmoid(h), σ² I): its loss is the squared error over 2σ².

    h is the decoder's output. Its mean is h itself with `mean=linear`, as for points. With `mean=standardized` it is
    m + s h and its standard deviation is s σ, where m and s are the mean and the standard deviation of each channel of
    the training images. Up to a constant the loss is then ‖(x - m)/s - h‖² / 2σ², that of standardized images without
    an activation, as in AASAE's code, but reconstructions are in the units of pixels.

    SimVAE states its variance as 0.02; its code divides the squared error by 0.0201, which is σ² = 0.01. The log-scale
    of AASAE's code is log σ², 0 by default, which is `variance=1`. A learned σ² approaches the mean squared error of a
    pixel.
    """

    variance: float = option(default=0.02, gt=0, help="Variance of each pixel (σ²), or its initial value if learned.")
    scale: Literal["fixed", "learned"] = option(default="fixed", help="Whether σ², one for all pixels, is trained.")
    mean: Literal["sigmoid", "linear", "standardized"] = option(
        default="sigmoid",
        help="Activation of the decoder's output. With standardized it is linear, and its unit and that of σ are the "
        "standard deviation of each channel of the training images, around their mean.",
    )

    def build(self, ctx: Context) -> Context:
        if self.mean == "standardized":
            channels = (ctx.image_shape[0], 1, 1)
            self.centre, self.unit = nn.Buffer(torch.zeros(channels)), nn.Buffer(torch.ones(channels))
        if self.scale == "learned":
            self.log_variance = nn.Parameter(torch.tensor(math.log(self.variance)))
        return ctx

    def begin(self, train: Split) -> None:
        if self.mean != "standardized":
            return
        C, H, W = train.images.shape[1:]
        if len(self.centre) != C:
            decoded = f"{len(self.centre)} channels are decoded and images have {C}"
            raise ConfigError(f"likelihood.mean: {decoded}, expected sigmoid or linear instead of standardized")
        images = (x.double() for x in train.batches(torch.device("cpu")))
        sums = torch.stack([torch.stack([x, x.square()]).sum(dim=(1, 3, 4)) for x in images]).sum(dim=0)  # (2, C)
        mean, square = (sums / (len(train) * H * W))[..., None, None]
        self.centre.copy_(mean)
        self.unit.copy_((square - mean.square()).clamp(min=1 / 255**2).sqrt())  # a channel may be the same everywhere

    def forward(self, h: Tensor) -> Distribution:
        mean = h.float().sigmoid() if self.mean == "sigmoid" else h.float()
        scale = (self.log_variance / 2).exp() if self.scale == "learned" else self.variance**0.5
        if self.mean == "standardized":
            mean, scale = self.centre + self.unit * mean, self.unit * scale
        return Independent(Normal(mean, scale, validate_args=False), 3, validate_args=False)


class BernoulliLikelihood(Likelihood):
    """Binary pixels, p(x|z) = Bernoulli(sigmoid(h)). Of grey pixels it is a cross-entropy, not a density (SimVAE)."""

    def forward(self, h: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=h.float(), validate_args=False), 3, validate_args=False)
