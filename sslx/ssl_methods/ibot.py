import math

import torch
from torch import Tensor, nn

from sslx.api import (
    ConfigError,
    Context,
    Encoder,
    HasTokens,
    Prototypical,
    Term,
    Terms,
    Use,
    Views,
    can,
    chunked,
    gather,
    option,
    slot,
)
from sslx.ssl_methods.dino import DINOLoss
from sslx.ssl_methods.parts.masked import covered, grid_of, scattered


class IBOT(Prototypical, target="teacher", momentum=(0.996, 1.0), norm="none", objective="dino"):
    """DINO on views with hidden patches, whose clusters are predicted patch by patch as well (Zhou et al. 2022).

        minimize L_DINO(mean_t f(x̂)_t, mean_t f'(x')_t) + w 1/|M| Σ_{t in M} CE(P'(f'(x)_t), P(f(x̂)_t))

    M are the hidden patches of a view x, and x̂ the view with a learned patch in their place. f' sees x itself. Both
    terms share the head and have a centre each. The mean is over the hidden patches of a view, then over all views. In
    the paper a class token takes the place of the mean of tokens, the learned patch is inserted after the first layer,
    and patches are hidden in blocks; here they are hidden one by one.
    """

    encoder: Encoder = slot(default="vit", posterior="delta", dim=0, help="Network that gives tokens of patches (f).")
    masked: tuple[float, float] = option(default=(0.1, 0.5), gt=0, lt=1, help="Range of the share of hidden patches.")
    whole: float = option(default=0.5, ge=0, lt=1, help="Probability that no patch of a view is hidden.")
    patch_weight: float = option(default=1.0, ge=0, help="Weight of the loss of hidden patches (w).")
    patch_objective: DINOLoss = slot(default="dino", teacher_temperature=0.07, help="Loss of hidden patches.")

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        h, w, P = grid_of(self.encoder, type(self).__name__, ctx)
        C = ctx.image_shape[0]
        side = math.isqrt(P // C)
        if C * side**2 != P:
            raise ConfigError(f"encoder: its patches are not square, as {type(self).__name__} needs")
        if not self.is_mean(torch.linspace(0, 1, math.prod(ctx.image_shape)).view(1, *ctx.image_shape)):
            raise ConfigError(f"encoder.pool: {type(self).__name__} trains the mean of the tokens, expected mean")
        self.grid = (h, w)
        self.blank = nn.Parameter(0.5 + 0.02 * torch.randn(C, side, side))
        return self.patch_objective.build(ctx)

    def hidden(self, views: Views) -> Tensor:
        """Which patches of each view are hidden, (B, T)."""
        return scattered(views.keys(Use.MASKS), math.prod(self.grid), self.masked, self.whole)

    @torch.no_grad()
    def is_mean(self, x: Tensor) -> bool:
        """Whether the features of images x, which are evaluated, are the mean of their tokens, which is trained."""
        self.encoder.eval()
        same = torch.allclose(self.encoder.features(x), self.tokens(self.encoder, x).mean(dim=1), atol=1e-4)
        self.encoder.train()
        return same

    def tokens(self, encoder: nn.Module, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the tokens of all patches, (B, T, F)."""
        assert can(encoder, HasTokens), "`build` says so"
        return chunked(encoder, encoder.tokens, x)

    def relate(self, views: Views) -> Terms:
        x, hidden = views.flat, self.hidden(views)
        f, g = self.teacher
        tokens = self.tokens(self.encoder, covered(x, hidden.unflatten(1, self.grid), self.blank))  # (B, T, F)
        z = views.group(self.head(tokens.mean(dim=1)))
        if views.local is not None:
            local = self.embed(views.local.flatten(0, 1)).unflatten(0, views.local.shape[:2])
            z = torch.cat([z, local], dim=1)
        with torch.no_grad():
            known = self.tokens(f, x)
            target = views.group(g(known.mean(dim=1)))
            patches = g(known.flatten(0, 1)).view(*hidden.shape, -1)  # (B, T, K)
        terms = self.objective(gather(z), gather(target))
        probabilities = self.patch_objective.teach(patches)
        self.patch_objective.mean = gather(self.patch_objective.mean[None]).mean(dim=0)  # of all processes
        log_p = self.patch_objective.log_prob(self.head(tokens.flatten(0, 1)).view_as(patches))
        loss = -(log_p * probabilities).sum(dim=2).mul(hidden).sum(dim=1) / hidden.sum(dim=1).clamp(min=1)
        return Terms({**terms, "patches": Term(loss.mean(), self.patch_weight)})
