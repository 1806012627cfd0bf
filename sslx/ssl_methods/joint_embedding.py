"""The wiring that discriminative methods share."""

from __future__ import annotations

from torch import Tensor, nn

from sslx.api import Context, Encoder, Method, Objective, Terms, Views, gather, option, slot


def projection_head(widths: tuple[int, ...], features: int) -> nn.Sequential:
    """Linear layers with batch normalisation and ReLU between them; none at all for no widths."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        layers.append(nn.Linear(features, width))
        if i < len(widths) - 1:
            layers += [nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        features = width
    return nn.Sequential(*layers)


class JointEmbedding(Method):
    """Views are encoded and projected, and an objective compares the embeddings, gathered from all processes."""

    encoder: Encoder = slot(default="mlp", posterior="delta", help="its mean is the representation")
    projector: tuple[int, ...] = option(default=(128, 128), gt=0, help="widths of the projection head; []: none")
    objective: Objective = slot(default="info-nce", help="what is minimised")

    def build(self, ctx: Context) -> Context:
        ctx = self.encoder.build(ctx)
        self.head = projection_head(self.projector, ctx.latent)
        return self.objective.build(ctx.but(latent=self.projector[-1] if self.projector else ctx.latent))

    def forward(self, views: Views) -> Terms:
        z = self.head(self.encoder(views.flat).mean)  # (B, D)
        z = gather(views.group(z.float()))  # (N, J, D)
        return self.objective(z, z)

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean
