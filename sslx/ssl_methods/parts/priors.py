"""Priors: how the latents z¹…zᴶ of J related views are distributed; latents (N, J, D) have densities (N,)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sslx.api import ConfigError, Context, Prior, Split, Use, option, permutation, pixels, resized

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
    """Views around a mean of flat density (SimVAE, Eq. 6).

        log p(z|y) = -Σⱼ‖zʲ - z̄‖² / 2σ² + constant,    z̄ = 1/J Σⱼ zʲ

    It is improper, as no mean is more probable than another one.
    """

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
        uncertainty = self.variance / z.shape[1] if self.mean == "integrated" else 0.0
        return _around(z, z.new_zeros(1, z.shape[2]), self.variance, self.scale, uncertainty)[:, 0]

    def sample(self, n: int, views: int = 1) -> Tensor:
        mean = self.scale * torch.randn_like(self.origin.expand(n, 1, -1))
        return mean + self.variance**0.5 * torch.randn_like(mean.expand(-1, views, -1))


def _around(z: Tensor, centres: Tensor, variance: float, scale: float, uncertainty: float) -> Tensor:
    """log ∫ N(ψ; centre, γ²I) Πⱼ N(zʲ; ψ, σ²I) dψ of latents (N, J, D) for each of K centres (K, D): (N, K)."""
    _, J, D = z.shape
    mean = z.mean(dim=1)  # (N, D)
    spread = (z - mean[:, None]).square().sum(dim=(1, 2)) / variance
    offset = (mean[:, None] - centres).square().sum(dim=2) / (scale**2 + uncertainty)
    volume = (J - 1) * math.log(variance) + math.log(variance + J * scale**2) + J * _LOG_2PI
    return -0.5 * (spread[:, None] + offset + D * volume)


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


class Hierarchical(Mixture):
    """Views around the mean of their image, which is in one of K clusters: `gaussian-mean` below `mixture`.

        p(z) = Σ_y π_y ∫ N(ψ; μ_y, γ²I) Πⱼ N(zʲ; ψ, σ²I) dψ

    In `mixture` the images of a cluster differ as little as the views of one image. Here they have a variance γ² of
    their own, so that a latent says which image of its cluster it is.
    """

    variance: float = option(default=0.15, gt=0, help="Variance of the views around the mean of their image (σ²).")
    scale: float = option(default=0.5, gt=0, help="Standard deviation of the images of a cluster (γ).")

    def joint(self, z: Tensor) -> Tensor:
        p = _around(z, self.means, self.variance, self.scale, self.variance / z.shape[1])
        return self.logits.log_softmax(dim=0) + p

    def sample(self, n: int, views: int = 1) -> Tensor:
        y = torch.multinomial(self.logits.softmax(dim=0), n, replacement=True)
        image = self.means[y, None] + self.scale * torch.randn_like(self.means[y, None])  # (n, 1, D)
        return image + self.variance**0.5 * torch.randn_like(image.expand(-1, views, -1))


class Vamp(Prior):
    """Views of one of K learned pseudo-inputs: p(z) = 1/K Σₖ Πⱼ q(zʲ|uₖ) (VampPrior, Tomczak & Welling 2018, Eq. 9).

    The paper has one view. The pseudo-inputs uₖ begin as training images, and every step encodes them all. They are
    not restricted to the range of the images, as they are in the code of the paper.
    """

    components: int = option(default=500, gt=0, help="Number of pseudo-inputs (K); 500 in the paper.")

    def build(self, ctx: Context) -> Context:
        if ctx.posterior is None:
            raise ConfigError("vamp: expected a method with an encoder, through which the pseudo-inputs pass")
        self.posterior = ctx.posterior
        self.inputs = nn.Parameter(torch.rand(self.components, *ctx.image_shape))
        return ctx

    def begin(self, train: Split) -> None:
        chosen = permutation(len(train), Use.WEIGHTS, 0)[: self.components].sort().values
        images = resized(pixels(train.images[chosen]), self.inputs.shape[-2:])
        self.inputs.data[: len(chosen)] = images

    def joint(self, z: Tensor) -> Tensor:
        """Latents (N, J, D) -> log p(uₖ, z) for every pseudo-input, (N, K)."""
        q = self.posterior(self.inputs)
        return q.log_prob(z[:, :, None]).sum(dim=1) - math.log(self.components)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.joint(z).logsumexp(dim=1)

    def cluster(self, z: Tensor) -> Tensor:
        """Latents (N, J, D) -> log p(uₖ|z¹…zᴶ) of each set, (N, K)."""
        return self.joint(z).log_softmax(dim=1)

    def sample(self, n: int, views: int = 1) -> Tensor:
        chosen = torch.randint(self.components, (n,), device=self.inputs.device)
        return self.posterior(self.inputs[chosen]).sample((views,)).transpose(0, 1)
