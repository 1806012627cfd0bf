"""Posteriors: the distribution that the features of an encoder define."""

from torch import Tensor, nn
from torch.distributions import Distribution

from sslx.api import Context, Delta, Posterior, diagonal_normal, head, option


class ProjectedPosterior(Posterior):
    """A posterior with optional layers before its last one, each with batch normalization and ReLU."""

    projection: tuple[int, ...] = option(default=(), gt=0, help="Widths of layers before the last; AASAE has 2048.")
    bias: bool = option(default=True, help="Whether the last layer has a bias; that of AASAE has none.")

    def project(self, features: int, outputs: int) -> nn.Linear:
        """Make the layers on so many features. Returns the last layer, which has so many outputs."""
        *layers, last = head((*self.projection, outputs), features, norm="batch")
        self.layers = nn.Sequential(*layers)
        assert isinstance(last, nn.Linear)
        if not self.bias:
            last.register_parameter("bias", None)
        return last

    def rows(self, layer: nn.Linear, n: int) -> tuple[Tensor, Tensor]:
        """The first n rows of the last layer, if it is the only one, as `linear` returns them."""
        if self.projection:
            return super().linear()
        return layer.weight[:n], layer.bias[:n] if self.bias else layer.weight.new_zeros(n)


class GaussianPosterior(ProjectedPosterior):
    """A normal distribution with learned mean and diagonal variance, q(z|x) = N(μ(x), diag σ²(x))."""

    def build(self, ctx: Context) -> Context:
        self.moments = self.project(ctx.features, 2 * ctx.latent)
        return ctx

    def linear(self) -> tuple[Tensor, Tensor]:
        return self.rows(self.moments, self.moments.out_features // 2)

    def forward(self, h: Tensor) -> Distribution:
        mean, spread = self.moments(self.layers(h)).float().chunk(2, dim=1)  # (B, D) each
        return diagonal_normal(mean, self.log_variance(spread))

    def log_variance(self, spread: Tensor) -> Tensor:
        """log σ²(x) from the second half of the last layer's output, both (B, D)."""
        return spread


class TamedGaussianPosterior(GaussianPosterior):
    """A `gaussian` whose log-variance grows only logarithmically below -30 and above 3, so that σ² cannot overflow.

    In between the two are equal, and the papers' models stay there. But the first steps of a residual network can take
    the output of its last layer to 80, and exp(80) outweighs everything else in the loss.
    """

    def log_variance(self, spread: Tensor) -> Tensor:
        inside = spread.detach().clamp(-30, 3)
        beyond = spread - inside
        return spread.where(beyond == 0, inside + beyond.sign() * beyond.abs().log1p())


class DeltaPosterior(ProjectedPosterior):
    """A single point, q(z|x) = δ(z - f(x)), which makes the encoder deterministic."""

    deterministic = True

    def build(self, ctx: Context) -> Context:
        self.point = self.project(ctx.features, ctx.latent)
        return ctx

    def linear(self) -> tuple[Tensor, Tensor]:
        return self.rows(self.point, self.point.out_features)

    def forward(self, h: Tensor) -> Distribution:
        return Delta(self.point(self.layers(h)).float())
