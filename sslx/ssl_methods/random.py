"""The floor of every table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from sslx.api import Context, Encoder, Method, Terms, Views, slot


class Random(Method):
    """An encoder as it is initialised. It has nothing to train."""

    defaults: ClassVar[Mapping[str, Any]] = {"train": {"epochs": 0}}

    encoder: Encoder = slot(default="mlp", help="the network to look at")

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        self.requires_grad_(False)
        return ctx

    def forward(self, views: Views) -> Terms:
        return Terms()

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean
