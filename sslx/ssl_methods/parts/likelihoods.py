"""Likelihoods: the last step of a decoder."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from sslx.api import Context, Likelihood, option


class GaussianLikelihood(Likelihood):
    """p(x|z) = N(sigmoid(h), σ² I): the squared error, summed over pixels, over 2σ², and log σ for each of them.

    SimVAE gives its variance as 0.02; its code divides the squared error by 0.0201, which is σ² = 0.01. The log-scale
    of AASAE's code is log σ², 0 by default. A learned σ² approaches the mean squared error of a pixel.
    """

    variance: float = option(default=0.02, gt=0, help="σ², of each pixel; where it begins, if it is learned")
    scale: Literal["fixed", "learned"] = option(default="fixed", help="whether σ², one for all pixels, is trained")
    mean: Literal["sigmoid", "linear"] = option(
        default="sigmoid", help="of the decoder's output h; linear, which is h itself: as AASAE, and for points"
    )

    def build(self, ctx: Context) -> Context:
        if self.scale == "learned":
            self.log_variance = nn.Parameter(torch.tensor(math.log(self.variance)))
        return ctx

    def forward(self, h: Tensor) -> Distribution:
        mean = h.float().sigmoid() if self.mean == "sigmoid" else h.float()
        scale = (self.log_variance / 2).exp() if self.scale == "learned" else self.variance**0.5
        return Independent(Normal(mean, scale, validate_args=False), 3, validate_args=False)


class BernoulliLikelihood(Likelihood):
    """p(x|z) = Bernoulli(sigmoid(h)). For grey pixels in [0, 1] a cross-entropy, not a density (SimVAE's code)."""

    def forward(self, h: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=h.float(), validate_args=False), 3, validate_args=False)
