from torch import nn

from sslx.api import Context, JointEmbedding


class SimSiam(JointEmbedding, predictor=(128, 128), target="stopped", objective="cosine"):
    """Predicts the embedding of another view, whose gradient is stopped (Chen & He 2021, Eq. 1 to 4).

    The output of g is normalized over the batch. The paper's predictor is a bottleneck (2048-512-2048); after a
    representation of ten dimensions a second one does harm. Only the predictor prevents the loss of dimensions: with
    Adam at 1e-3, which suits the other methods, kNN on Fashion-MNIST is worse than with the untrained encoder.
    """

    defaults = {"train": {"lr": 3e-4}}
    ignored = frozenset({"normalize"})  # its objective compares directions

    def build_head(self, ctx: Context) -> Context:
        ctx = super().build_head(ctx)
        if self.norm == "batch":
            self.head.append(nn.BatchNorm1d(ctx.latent, affine=False))
        return ctx
