"""The last layers: what kind of distribution an encoder's or a decoder's output is."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from sslx.api import Context, Delta, Likelihood, Posterior, diagonal_normal, option


class Projected(Posterior):
    """A posterior that can have layers of its own between the encoder's features and its parameters."""

    projection: tuple[int, ...] = option(
        default=(), gt=0, help="widths of layers below it, each with batch normalisation and ReLU; 2048 in AASAE"
    )

    def project(self, ctx: Context) -> int:
        """Make these layers, and return how many outputs they have."""
        widths, layers = (ctx.features, *self.projection), list[nn.Module]()
        for features, width in zip(widths, self.projection, strict=False):
            layers += [nn.Linear(features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        return widths[-1]

    def rows(self, layer: nn.Linear, n: int) -> tuple[Tensor, Tensor]:
        """The first n rows of the last layer, if it is the only one, as `linear` returns them."""
        return super().linear() if self.projection else (layer.weight[:n], layer.bias[:n])


class GaussianPosterior(Projected):
    """q(z|x) = N(μ(x), diag σ²(x))."""

    def build(self, ctx: Context) -> Context:
        self.moments = nn.Linear(self.project(ctx), 2 * ctx.latent)
        return ctx

    def linear(self) -> tuple[Tensor, Tensor]:
        return self.rows(self.moments, self.moments.out_features // 2)

    def forward(self, h: Tensor) -> Distribution:
        mean, log_variance = self.moments(self.layers(h)).float().chunk(2, dim=1)  # (B, D) each
        return diagonal_normal(mean, log_variance)


class DeltaPosterior(Projected):
    """q(z|x) = δ(z - f(x))."""

    def build(self, ctx: Context) -> Context:
        self.point = nn.Linear(self.project(ctx), ctx.latent)
        return ctx

    def linear(self) -> tuple[Tensor, Tensor]:
        return self.rows(self.point, self.point.out_features)

    def forward(self, h: Tensor) -> Distribution:
        return Delta(self.point(self.layers(h)).float())


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
