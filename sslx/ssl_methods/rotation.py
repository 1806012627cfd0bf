import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sslx.api import ConfigError, Context, Projected, Terms, Views


class Rotation(Projected):
    """Predicts by which of 0, 90, 180 and 270 degrees a view was rotated; each view is seen in all four rotations.

        minimize -log softmax(g(f(xᵣ)))ᵣ, the mean over rotations r

    Gidaris et al. 2018, Eq. 2. A projector is between the representation and the classifier: in the paper, too, earlier
    layers are more useful than the last one, which knows little more than the angle.
    """

    def build_head(self, ctx: Context) -> Context:
        _, H, W = ctx.image_shape
        if H != W:
            raise ConfigError(f"rotation: expected square images, got {H}x{W}")
        ctx = super().build_head(ctx)
        self.head.append(nn.Linear(ctx.latent, 4))
        return ctx.but(latent=4)

    def forward(self, views: Views) -> Terms:
        x = views.flat
        turned = torch.cat([x.rot90(r, dims=(2, 3)) for r in range(4)])  # (4·B, C, H, W)
        y = torch.arange(4, device=x.device).repeat_interleave(len(x))
        return Terms(rotation=cross_entropy(self.embed(turned), y))
