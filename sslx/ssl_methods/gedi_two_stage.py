import torch
from torch import nn

from sslx.api import Context, Terms, Views, option
from sslx.ssl_methods.gedi import GEDI


class TwoStage(GEDI):
    """GEDI that first learns its density alone (L_GEN) and then its clusters alone (L_INV and L_PRIOR).

    The paper compares with training in two stages without defining it and refers to another paper; this is our reading.
    """

    generative_steps: int = option(default=1000, ge=0, help="Number of steps in the first stage, for the density.")

    def build(self, ctx: Context) -> Context:
        self.steps = nn.Buffer(torch.tensor(0))
        return super().build(ctx)

    def forward(self, views: Views) -> Terms:
        first = bool(self.steps < self.generative_steps)
        terms = super().forward(views)
        counts = {name: (name in ("generative", "magnitude")) == first for name in terms}
        return Terms({name: term._replace(weight=term.weight * counts[name]) for name, term in terms.items()})

    def after_step(self, step: int) -> None:
        super().after_step(step)
        self.steps.add_(1)
