"""The distribution of the latents of training, to draw from where there is no proper prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sslx.core.public import gather


class Aggregate(nn.Module):
    """The normal distribution with the moments of the latents of training, as a running average over batches."""

    mean: Tensor
    covariance: Tensor
    batches: Tensor

    def __init__(self, D: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(D))
        self.register_buffer("covariance", torch.eye(D))
        self.register_buffer("batches", torch.zeros(()))

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Take the latents of a batch in, (B, D), from all processes."""
        z = gather(z)
        self.batches += 1
        share = (1 / self.batches).clamp(min=0.01)  # all batches alike, later the last hundred: latents move
        mean = z.mean(dim=0)
        offset = mean - self.mean
        within = (z - mean).T.cov(correction=0).reshape(self.covariance.shape)  # of one dimension it is a scalar
        self.mean.lerp_(mean, share)
        self.covariance.lerp_(within + (1 - share) * offset.outer(offset), share)

    def sample(self, n: int) -> Tensor:
        """(n, D)."""
        variances, directions = torch.linalg.eigh(self.covariance)
        noise = torch.randn_like(self.mean.expand(n, -1))
        return self.mean + noise * variances.clamp(min=0).sqrt() @ directions.T
