"""Objectives on the embeddings of related views, (N, J, D), that several methods share."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.api import Context, Objective, Term, Terms, option


def over_pairs(x: Tensor) -> Tensor:
    """Values for each online and each target view, (..., V, J) -> their mean over all pairs of different views."""
    V, J = x.shape[-2:]
    v, j = _different(V, J, x.device)
    return x[..., v, j].mean()


def _different(V: int, J: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices v and j of all pairs of different views, in order of v. A mask would make every step wait for a GPU."""
    count = min(V, J)  # of pairs of a view with itself
    k = torch.arange(V * J - count, device=device)
    place = k + 1 + (k // J).clamp(max=count - 1)  # in (V, J) without its diagonal
    return place // J, place % J


def sinkhorn(scores: Tensor, iterations: int) -> Tensor:
    """Scores (..., N, K) -> log q of the same shape: each row is a distribution and each column sums to about N/K.

    It is computed in logarithms (Cuturi 2013), because exp(score) overflows float32 for sharp scores.
    """
    for _ in range(iterations):
        scores = scores.log_softmax(dim=-2).log_softmax(dim=-1)
    return scores


class InfoNCE(Objective):
    """Contrast of related views with all other embeddings of the batch, s their cosine similarity.

        -1/(B(J-1)) Σᵢ Σ_{p related to i} [sᵢₚ/τ - log Σ_{a≠i} exp(sᵢₐ/τ)]

    For J = 2 this is NT-Xent (SimCLR, Eq. 1); for more views every pair of related ones is a positive. The embeddings r
    of the latest views give a density, f(x) = log Σᵣ exp(s(z, r)/τ) (GEDI, Eq. 2).
    """

    least_images = 2
    gated = True

    temperature: float = option(default=0.7, gt=0, help="Temperature (τ); 0.7 in SimVAE, 0.5 in SimCLR on CIFAR-10.")
    references: int = option(default=256, gt=0, help="Number of embeddings of the latest views that are kept (r).")

    def build(self, ctx: Context) -> Context:
        self.latest = nn.Buffer(torch.randn(self.references, ctx.latent))
        return ctx

    def similarity(self, z: Tensor, t: Tensor) -> Tensor:
        """Embeddings (n, D), (m, D) -> their similarities s, (n, m)."""
        return normalize(z, dim=1) @ normalize(t, dim=1).T

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        (N, V, _), J = online.shape, target.shape[1]
        z, t = online.flatten(0, 1), target.flatten(0, 1)
        self.seen = t.detach()
        image = torch.arange(N, device=z.device)
        same = image.repeat_interleave(V)[:, None] == image.repeat_interleave(J)  # (N·V, N·J)
        itself = torch.eye(V, J, dtype=torch.bool, device=z.device).repeat(N, N) & same
        log_p = (self.similarity(z, t) / self.temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
        v, j = _different(V, J, z.device)
        related = log_p[(V * image[:, None] + v).flatten(), (J * image[:, None] + j).flatten()]
        return Terms(contrast=-related.mean())

    def log_density(self, z: Tensor) -> Tensor:
        """(B, D) -> f(x), (B,)."""
        return (self.similarity(z, self.latest) / self.temperature).logsumexp(dim=1)

    def after_step(self, step: int) -> None:
        self.latest.copy_(torch.cat([self.seen, self.latest])[: self.references])


class Cosine(Objective):
    """Distance of different views on the unit sphere (BYOL, Eq. 2).

        ‖q̄ - k̄‖² = 2 - 2 cos(q, k),    q̄ = q / ‖q‖, k̄ = k / ‖k‖

    The loss is the mean over pairs. SimSiam's D(q, k) is half of it, minus one (Eq. 1).
    """

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        cosine = normalize(online, dim=2) @ normalize(target, dim=2).mT  # (N, V, J)
        return Terms(distance=Term(over_pairs(2 - 2 * cosine), minimum=0.0))
