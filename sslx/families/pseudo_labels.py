from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from sslx.core.public import ConfigError, Context, Terms, option
from sslx.families.bank import Bank, cross_entropy_of_known


class PseudoLabels(Bank):
    """Predicts the cluster y of each image by -log softmax(logits(z))_y; clusters are found before each epoch.

    Images without a cluster do not count: nothing is learned in the first epoch, which fills the bank.
    """

    defaults = {"evaluators": ["cluster"]}

    clusters: int = option(default=100, gt=1, help="Number of clusters (K); for clustering, the number of classes.")

    def build(self, ctx: Context) -> Context:
        if self.clusters > ctx.samples:
            raise ConfigError(f"clusters: expected at most {ctx.samples}, the images there are, got {self.clusters}")
        ctx = super().build(ctx)
        self.labels = nn.Buffer(torch.full((ctx.samples,), -1))
        return ctx

    @abstractmethod
    def logits(self, z: Tensor) -> Tensor:
        """Embeddings (..., D) -> scores of the clusters, (..., K)."""

    @abstractmethod
    def assign(self, rows: Tensor) -> Tensor:
        """Rows of the images seen so far, (n, D) -> their clusters, (n,)."""

    def compare(self, z: Tensor) -> Terms:
        y = self.labels[self.index].repeat_interleave(z.shape[1])
        return Terms(classification=cross_entropy_of_known(self.logits(z).flatten(0, 1), y))

    @torch.no_grad()
    def before_epoch(self, epoch: int) -> None:
        seen = self.bank.any(dim=1)
        if seen.sum() >= self.clusters:
            self.labels[seen] = self.assign(self.bank[seen])

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> log p(cluster | x), (B, K)."""
        return self.logits(self.embed(x)).log_softmax(dim=1)

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> f(x) = logsumexp of the logits, (B,)."""
        return self.logits(self.embed(x)).logsumexp(dim=1)
