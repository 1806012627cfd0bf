from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sslx.core.public import Context, Terms, Views, gather
from sslx.families.projected import Projected


def cross_entropy_of_known(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of logits (n, K) with the classes (n,) that are not -1; zero, gradient too, if none is."""
    return cross_entropy(logits, y, ignore_index=-1, reduction="sum") / (y >= 0).sum().clamp(min=1)


class Bank(Projected):
    """Keeps one row for each training image, written when the image is visited on any process and zero before that."""

    least_images = 2
    gated = True

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        self.bank = nn.Buffer(torch.zeros(ctx.samples, ctx.latent))
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
