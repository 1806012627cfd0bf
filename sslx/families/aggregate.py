import torch
from torch import Tensor, nn

from sslx.core.public import gather


class Aggregate(nn.Module):
    """A normal distribution with the mean and covariance of the training latents, averaged over batches."""

    def __init__(self, D: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(D))
        self.covariance = nn.Buffer(torch.eye(D))
        self.batches = nn.Buffer(torch.zeros(()))

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Include the latents of a batch, (B, D) from each process."""
        z = gather(z)
        self.batches.add_(1)
        share = (1 / self.batches).clamp(min=0.01)  # all batches equally, later the last hundred: latents move
        mean = z.mean(dim=0)
        offset = mean - self.mean
        within = (z - mean).T.cov(correction=0).reshape(self.covariance.shape)  # a scalar if D = 1
        self.mean.lerp_(mean, share)
        self.covariance.lerp_(within + (1 - share) * offset.outer(offset), share)

    def sample(self, n: int) -> Tensor:
        """n latents, (n, D)."""
        variances, directions = torch.linalg.eigh(self.covariance)
        noise = torch.randn_like(self.mean.expand(n, -1))
        return self.mean + noise * variances.clamp(min=0).sqrt() @ directions.T
