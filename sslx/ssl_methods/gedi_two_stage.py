"""GEDI in two stages."""

from __future__ import annotations

import torch
from torch import Tensor

from sslx.api import Context, Terms, Views, option
from sslx.ssl_methods.gedi import GEDI


class TwoStage(GEDI):
    """L_GEN alone for the first steps, then L_INV and L_PRIOR alone.

    Our reading: the paper names a comparison of two stages and refers to another one, which we have not read.
    """

    generative_steps: int = option(default=1000, ge=0, help="of the first stage")

    steps: Tensor

    def build(self, ctx: Context) -> Context:
        self.register_buffer("steps", torch.tensor(0))
        return super().build(ctx)

    def forward(self, views: Views) -> Terms:
        first = bool(self.steps < self.generative_steps)
        terms = super().forward(views)
        counts = {name: (name in ("generative", "magnitude")) == first for name in terms}
        return Terms({name: term._replace(weight=term.weight * counts[name]) for name, term in terms.items()})

    def after_step(self, step: int) -> None:
        super().after_step(step)
        self.steps += 1
