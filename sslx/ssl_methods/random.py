from torch import Tensor

from sslx.api import Context, Encoder, Method, Terms, Views, slot


class Random(Method):
    """An encoder with its initial weights. It has nothing to train and is what other methods are compared with."""

    defaults = {"train": {"epochs": 0}}

    encoder: Encoder = slot(default="mlp", help="Network whose initial weights are evaluated.")

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        self.requires_grad_(False)
        return ctx

    def forward(self, views: Views) -> Terms:
        return Terms()

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean
