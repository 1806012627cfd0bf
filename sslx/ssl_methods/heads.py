"""The last layers: what kind of distribution an encoder's or a decoder's output is."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from sslx.api import Context, Delta, Likelihood, Posterior, diagonal_normal, option


class GaussianPosterior(Posterior):
    """q(z|x) = N(μ(x), diag σ²(x))."""

    def build(self, ctx: Context) -> Context:
        self.moments = nn.Linear(ctx.features, 2 * ctx.latent)
        return ctx

    def forward(self, h: Tensor) -> Distribution:
        mean, log_variance = self.moments(h).float().chunk(2, dim=1)  # (B, D) each
        return diagonal_normal(mean, log_variance)


class DeltaPosterior(Posterior):
    """q(z|x) = δ(z - f(x))."""

    def build(self, ctx: Context) -> Context:
        self.point = nn.Linear(ctx.features, ctx.latent)
        return ctx

    def forward(self, h: Tensor) -> Distribution:
        return Delta(self.point(h).float())


class GaussianLikelihood(Likelihood):
    """p(x|z) = N(sigmoid(h), σ² I): the squared error, summed over pixels, over 2σ².

    SimVAE gives its variance as 0.02; its code divides the squared error by 0.0201, which is σ² = 0.01.
    """

    variance: float = option(default=0.02, gt=0, help="σ², of each pixel")

    def forward(self, h: Tensor) -> Distribution:
        return Independent(Normal(h.float().sigmoid(), self.variance**0.5, validate_args=False), 3, validate_args=False)


class BernoulliLikelihood(Likelihood):
    """p(x|z) = Bernoulli(sigmoid(h)). For grey pixels in [0, 1] a cross-entropy, not a density (SimVAE's code)."""

    def forward(self, h: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=h.float(), validate_args=False), 3, validate_args=False)
