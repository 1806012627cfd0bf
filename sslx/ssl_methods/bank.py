"""The wiring of methods that remember each image of the training set from one epoch to the next."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sslx.api import ConfigError, Context, Terms, Views, gather, option
from sslx.ssl_methods.joint_embedding import Projected


def cross_entropy_of_known(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of (n, K) and the (n,) classes that are not -1; zero, with a zero gradient, if all are."""
    return cross_entropy(logits, y, ignore_index=-1, reduction="sum") / (y >= 0).sum().clamp(min=1)


class Bank(Projected):
    """A row of the bank is what was last seen of an image, from whichever process; zero before its first visit."""

    bank: Tensor

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        self.register_buffer("bank", torch.zeros(ctx.samples, ctx.latent))
        return ctx

    def relate(self, views: Views) -> Terms:
        z, self.index = gather(self.embeddings(views)), gather(views.index)  # (N, V, D), (N,)
        with torch.autocast(z.device.type, enabled=False):  # losses are computed in float32
            self.rows = self.remember(z.detach())
            return self.compare(z)

    @abstractmethod
    def remember(self, z: Tensor) -> Tensor:
        """Embeddings of the views (N, V, D) of the images `self.index` -> their new rows, (N, D)."""

    @abstractmethod
    def compare(self, z: Tensor) -> Terms:
        """The loss of the embeddings (N, V, D) of the images `self.index`."""

    def after_step(self, step: int) -> None:
        super().after_step(step)
        self.bank[self.index] = self.rows


class PseudoLabels(Bank):
    """-log softmax(logits(z))_y over all views, y the image's cluster, found from the bank before each epoch.

    Images without a cluster do not count: in the first epoch nothing is learned, it fills the bank.
    """

    clusters: int = option(default=100, gt=1, help="K; several times the number of classes, or equal to cluster by")

    labels: Tensor

    def build(self, ctx: Context) -> Context:
        if self.clusters > ctx.samples:
            raise ConfigError(f"clusters: expected at most {ctx.samples}, the images there are, got {self.clusters}")
        ctx = super().build(ctx)
        self.register_buffer("labels", torch.full((ctx.samples,), -1))
        return ctx

    @abstractmethod
    def logits(self, z: Tensor) -> Tensor:
        """(..., D) -> (..., K)."""

    @abstractmethod
    def assign(self, rows: Tensor) -> Tensor:
        """Rows of the images that were seen, (n, D) -> their clusters, (n,)."""

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
