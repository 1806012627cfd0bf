"""Posteriors: the last layer of an encoder."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from sslx.api import Context, Delta, Posterior, diagonal_normal, option


class ProjectedPosterior(Posterior):
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


class GaussianPosterior(ProjectedPosterior):
    """q(z|x) = N(μ(x), diag σ²(x))."""

    def build(self, ctx: Context) -> Context:
        self.moments = nn.Linear(self.project(ctx), 2 * ctx.latent)
        return ctx

    def linear(self) -> tuple[Tensor, Tensor]:
        return self.rows(self.moments, self.moments.out_features // 2)

    def forward(self, h: Tensor) -> Distribution:
        mean, log_variance = self.moments(self.layers(h)).float().chunk(2, dim=1)  # (B, D) each
        return diagonal_normal(mean, log_variance)


class DeltaPosterior(ProjectedPosterior):
    """q(z|x) = δ(z - f(x))."""

    def build(self, ctx: Context) -> Context:
        self.point = nn.Linear(self.project(ctx), ctx.latent)
        return ctx

    def linear(self) -> tuple[Tensor, Tensor]:
        return self.rows(self.point, self.point.out_features)

    def forward(self, h: Tensor) -> Distribution:
        return Delta(self.point(self.layers(h)).float())
