import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.api import Context, JointEmbedding, Objective, Term, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class CorInfoMaxLoss(Objective):
    """Distance of views minus the volume of their embeddings z, which have unit length (Ozsoy et al. 2022, Eq. 6).

        α mean (z - z')² - 1/D [log|R + εI| + log|R' + εI|]
        μ ← λμ + (1-λ) z̄,   R ← λR + (1-λ) 1/N Σ (z - μ)(z - μ)ᵀ,   for each view

    The loss is the mean over pairs of views. Local crops have no covariance of their own.
    """

    least_images = 2
    gated = True

    attraction: float = option(default=250.0, ge=0, help="Weight of the distance (α); CIFAR-10 250, CIFAR-100 1000.")
    forgetting: float = option(default=0.01, ge=0, lt=1, help="Weight of the moments of earlier steps (λ).")
    epsilon: float = option(default=1e-6, gt=0, help="Added to the covariance (ε); the authors' CIFAR code has 1e-8.")

    def build(self, ctx: Context) -> Context:
        self.mu = nn.Buffer(torch.zeros(ctx.views, 1, ctx.latent))
        self.R = nn.Buffer(torch.eye(ctx.latent).repeat(ctx.views, 1, 1))
        return ctx

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        q, k = normalize(online, dim=2), normalize(target, dim=2)
        z, keep = q[:, : k.shape[1]].transpose(0, 1), self.forgetting  # (J, N, D)
        mu = keep * self.mu + (1 - keep) * z.mean(dim=1, keepdim=True)
        R = keep * self.R + (1 - keep) * (z - mu).mT @ (z - mu) / z.shape[1]
        self.moments = mu.detach(), R.detach()
        D = z.shape[2]
        # In float64: the product of D small eigenvalues is far smaller still.
        volume = torch.logdet(R.double() + self.epsilon * torch.eye(D, device=z.device)).mean()
        distance = over_pairs((q[:, :, None] - k[:, None]).square().mean(dim=3))
        return Terms(
            attraction=Term(distance, weight=self.attraction, minimum=0.0),
            volume=-2 / D * volume.to(distance.dtype),
        )

    def after_step(self, step: int) -> None:
        for old, new in zip((self.mu, self.R), self.moments, strict=True):
            old.copy_(new)


class CorInfoMax(JointEmbedding, projector=(128, 64), objective="cor-info-max"):
    """Views agree while the embeddings fill the volume of their space (Ozsoy et al. 2022)."""
