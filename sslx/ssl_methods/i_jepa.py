import copy

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, smooth_l1_loss

from sslx.api import Context, Term, Terms, Use, Views, key, option
from sslx.ssl_methods.networks.vit import check_width, picked
from sslx.ssl_methods.parts.masked import Masked, Predictor, block_size, blocks, others


class IJEPA(Masked):
    """Predicts the tokens of blocks of an image from tokens of patches outside of them (Assran et al. 2023).

        minimize mean_b mean_{t in b} D(g(f(x_C), b)_t, f'(x)_t)

    b are blocks of patches, C patches outside of all blocks, f the encoder, g a narrow predictor that is told the
    places of b, and f' a teacher that sees the whole image: the moving average of f, whose momentum goes from m₀ to m₁
    linearly. D is the smooth L1 distance from the teacher's normalized token, as in the authors' code; the paper has
    the squared distance. The teacher is what the authors evaluate; here it is the encoder, as for all methods.

    The size of the blocks is drawn for each epoch and their places for each image. C has as many patches as there are
    outside of blocks that do not overlap. In the authors' code sizes change with the batch, and C is a large block
    without the others, cut to the smallest of its batch.
    """

    gated = True

    scale: tuple[float, float] = option(default=(0.15, 0.2), gt=0, lt=1, help="Range of a block's share of the image.")
    ratio: tuple[float, float] = option(default=(0.75, 1.5), gt=0, help="Range of a block's height over its width.")
    blocks: int = option(default=4, gt=0, help="Number of blocks to predict.")
    width: int = option(default=96, gt=0, help="Width of the predictor (g); 384 in the paper.")
    depth: int = option(default=3, gt=0, help="Number of blocks of the predictor; 6 in the paper for a ViT-B.")
    heads: int = option(default=3, gt=0, help="Number of attention heads in each block of the predictor.")
    momentum: tuple[float, float] = option(
        default=(0.996, 1.0), ge=0, le=1, help="Momentum of the teacher at the start and the end of training (m₀, m₁)."
    )

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        check_width("width", self.width, self.heads)
        self.steps = max(1, ctx.steps)
        self.predictor = Predictor(ctx.latent, ctx.latent, self.grid, self.width, self.depth, self.heads)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        return ctx

    def masks(self, views: Views) -> tuple[Tensor, Tensor]:
        """Positions of C, (B, K), and of the blocks, (B, blocks, M)."""
        size = block_size(key(Use.MASKS, views.seed, views.epoch), self.grid, self.scale, self.ratio)
        keys, T = views.keys(Use.MASKS), self.grid[0] * self.grid[1]
        b = blocks(keys, self.grid, size, self.blocks)
        return others(keys, b.flatten(1), T, T - b[0].numel()), b

    def forward(self, views: Views) -> Terms:
        x = views.flat
        C, b = self.masks(views)
        context = self.tokens(x, C).repeat_interleave(self.blocks, dim=0)  # (B·blocks, K, F)
        predicted = self.predictor(context, C.repeat_interleave(self.blocks, dim=0), b.flatten(0, 1)).float()
        with torch.no_grad():
            tokens = self.teacher.tokens(x).float()
            target = picked(layer_norm(tokens, tokens.shape[2:]), b.flatten(1)).view_as(predicted)
        return Terms(prediction=Term(smooth_l1_loss(predicted, target), minimum=0.0))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        super().after_step(step)
        first, last = self.momentum
        m = first + (last - first) * step / self.steps
        for old, new in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            old.lerp_(new, 1 - m)
