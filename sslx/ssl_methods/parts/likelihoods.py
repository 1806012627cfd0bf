"""Likelihoods: the distribution that the output of a decoder defines."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from sslx.api import Context, Likelihood, option


class GaussianLikelihood(Likelihood):
    """A normal distribution of each pixel, p(x|z) = N(sigmoid(h), σ² I): its loss is the squared error over 2σ².

    h is the decoder's output. Its mean is h itself with `mean=linear`, as in AASAE and for points. SimVAE states its
    variance as 0.02; its code divides the squared error by 0.0201, which is σ² = 0.01. The log-scale of AASAE's code is
    log σ², 0 by default. A learned σ² approaches the mean squared error of a pixel.
    """

    variance: float = option(default=0.02, gt=0, help="Variance of each pixel (σ²), or its initial value if learned.")
    scale: Literal["fixed", "learned"] = option(default="fixed", help="Whether σ², one for all pixels, is trained.")
    mean: Literal["sigmoid", "linear"] = option(default="sigmoid", help="Activation of the decoder's output.")

    def build(self, ctx: Context) -> Context:
        if self.scale == "learned":
            self.log_variance = nn.Parameter(torch.tensor(math.log(self.variance)))
        return ctx

    def forward(self, h: Tensor) -> Distribution:
        mean = h.float().sigmoid() if self.mean == "sigmoid" else h.float()
        scale = (self.log_variance / 2).exp() if self.scale == "learned" else self.variance**0.5
        return Independent(Normal(mean, scale, validate_args=False), 3, validate_args=False)


class BernoulliLikelihood(Likelihood):
    """Binary pixels, p(x|z) = Bernoulli(sigmoid(h)). Of grey pixels it is a cross-entropy, not a density (SimVAE)."""

    def forward(self, h: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=h.float(), validate_args=False), 3, validate_args=False)
