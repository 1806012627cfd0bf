"""SimSiam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from sslx.api import Context, JointEmbedding


class SimSiam(JointEmbedding, predictor=(128, 128), target="stopped", objective="cosine"):
    """h(z) predicts the embedding of another view, whose gradient is stopped (Chen & He 2021, Eq. 1 to 4).

    The output of g is normalised over the batch. The paper's predictor is a bottleneck (2048-512-2048); behind a
    representation of ten dimensions one more does harm. Nothing but the predictor keeps dimensions from being lost:
    with Adam at 1e-3, which suits the other methods, the kNN on Fashion-MNIST falls below the untrained encoder's.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"train": {"lr": 3e-4}}

    def build_head(self, ctx: Context) -> Context:
        ctx = super().build_head(ctx)
        if self.norm == "batch":
            self.head.append(nn.BatchNorm1d(ctx.latent, affine=False))
        return ctx
