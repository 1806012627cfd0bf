"""Priors: how the latents z¹…zᴶ of J related views are distributed; latents (N, J, D) have densities (N,)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sslx.api import Context, Prior, option

_LOG_2PI = math.log(2 * math.pi)


class StandardNormal(Prior):
    """Unrelated views, as in a VAE: p(z) = Πⱼ N(zʲ; 0, I)."""

    def build(self, ctx: Context) -> Context:
        self.origin = nn.Buffer(torch.zeros(ctx.latent), persistent=False)
        return ctx

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + _LOG_2PI).sum(dim=(1, 2))

    def sample(self, n: int, views: int = 1) -> Tensor:
        return torch.randn_like(self.origin.expand(n, views, -1))


class SharedMean(Prior):
    """Views around a mean of flat density: p(z|y) ∝ exp(-Σⱼ ‖zʲ - z̄‖² / 2σ²) (SimVAE, Eq. 6). It is improper."""

    variance: float = option(default=0.15, gt=0, help="Variance of the views around their mean (σ²); 0.15 in SimVAE.")

    def log_prob(self, z: Tensor) -> Tensor:
        spread = (z - z.mean(dim=1, keepdim=True)).square().sum(dim=(1, 2))
        return -spread / (2 * self.variance)


class GaussianMean(StandardNormal):
    """Views around a mean of normal density (SimVAE, A.4 without its misprints).

        p(z|y) = ∫ N(ψ; 0, γ²I) Πⱼ N(zʲ; ψ, σ²I) dψ
        -log p = Σⱼ‖zʲ - z̄‖²/2σ² + ‖z̄‖²/2(γ² + σ²/J) + D/2 [(J-1) log σ² + log(σ² + Jγ²) + J log 2π]

    SimVAE's code uses z̄ as the mean instead of integrating the mean out: then the divisor of ‖z̄‖² is 2γ².
    """

    variance: float = option(default=0.15, gt=0, help="Variance of the views around their mean (σ²).")
    scale: float = option(default=1.0, gt=0, help="Standard deviation of the means (γ).")
    mean: Literal["integrated", "plugged-in"] = option(
        default="integrated", help="Whether the mean ψ is integrated out, or replaced by the mean z̄ of the views."
    )

    def log_prob(self, z: Tensor) -> Tensor:
        _, J, D = z.shape
        mean = z.mean(dim=1)  # (N, D)
        spread = (z - mean[:, None]).square().sum(dim=(1, 2)) / self.variance
        uncertainty = self.variance / J if self.mean == "integrated" else 0.0
        offset = mean.square().sum(dim=1) / (self.scale**2 + uncertainty)
        volume = (J - 1) * math.log(self.variance) + math.log(self.variance + J * self.scale**2) + J * _LOG_2PI
        return -0.5 * (spread + offset + D * volume)

    def sample(self, n: int, views: int = 1) -> Tensor:
        mean = self.scale * torch.randn_like(self.origin.expand(n, 1, -1))
        return mean + self.variance**0.5 * torch.randn_like(mean.expand(-1, views, -1))


class Mixture(Prior):
    """Views in one of K clusters: p(z) = Σ_y π_y Πⱼ N(zʲ; μ_y, σ²I) (SimVAE, discrete y).

    With `assignment=hard` a set is in its likeliest cluster alone, q(y|z) = δ, as in K-means. Then log p(z) is replaced
    by its lower bound max_y log π_y Πⱼ N(zʲ; μ_y, σ²I) (SimVAE-ICLR, Eq. 7 and the text below it).
    """

    components: int = option(default=10, gt=0, help="Number of clusters (K).")
    variance: float = option(default=0.15, gt=0, help="Variance of each cluster (σ²).")
    weights: Literal["learned", "uniform"] = option(default="learned", help="Weights of the clusters (π).")
    assignment: Literal["soft", "hard"] = option(
        default="soft", help="Whether all clusters count, or only the likeliest one of each set of views (q(y|z))."
    )

    def build(self, ctx: Context) -> Context:
        self.means = nn.Parameter(torch.randn(self.components, ctx.latent))
        self.logits = nn.Parameter(torch.zeros(self.components), requires_grad=self.weights == "learned")
        return ctx

    def joint(self, z: Tensor) -> Tensor:
        """Latents (N, J, D) -> log p(y, z) for every cluster y, (N, K)."""
        distance = (z[:, :, None] - self.means).square().sum(dim=(1, 3))  # (N, K), over views and dimensions
        volume = z[0].numel() * (math.log(self.variance) + _LOG_2PI)
        return self.logits.log_softmax(dim=0) - 0.5 * (distance / self.variance + volume)

    def log_prob(self, z: Tensor) -> Tensor:
        joint = self.joint(z)
        return joint.logsumexp(dim=1) if self.assignment == "soft" else joint.amax(dim=1)

    def cluster(self, z: Tensor) -> Tensor:
        """Latents (N, J, D) -> log p(y|z¹…zᴶ) of each set, (N, K)."""
        return self.joint(z).log_softmax(dim=1)

    def sample(self, n: int, views: int = 1) -> Tensor:
        y = torch.multinomial(self.logits.softmax(dim=0), n, replacement=True)
        mean = self.means[y, None]  # (n, 1, D)
        return mean + self.variance**0.5 * torch.randn_like(mean.expand(-1, views, -1))
