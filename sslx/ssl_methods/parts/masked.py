"""What methods share that learn from the patches of an image: their wiring, a predictor, and the law of masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sslx.api import ConfigError, Context, Encoded, Encoder, HasTokens, bits, can, chunked, mix, slot, uniform
from sslx.ssl_methods.networks.vit import Block, initialize, sincos


class Masked(Encoded):
    """A method that hides patches of each view from an encoder, and predicts something of them from the others."""

    defaults = {"views": {"count": 1}}

    encoder: Encoder = slot(default="vit", posterior="delta", dim=0, help="Network that gives tokens of patches (f).")

    def build(self, ctx: Context) -> Context:
        built = super().build(ctx)
        *grid, self.pixels = grid_of(self.encoder, type(self).__name__, ctx)
        self.grid = (grid[0], grid[1])
        return built

    def patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the pixels of each patch, (B, h, w, P)."""
        assert can(self.encoder, HasTokens), "`build` says so"
        return self.encoder.patches(x)

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> tokens of all patches, (B, T, F), or of those at `keep` (B, K), (B, K, F)."""
        assert can(self.encoder, HasTokens), "`build` says so"
        return chunked(self.encoder, self.encoder.tokens, x, keep)


def grid_of(encoder: Encoder, name: str, ctx: Context) -> tuple[int, int, int]:
    """The rows and columns of patches of a view, and the size of a patch, for the method with this name.

    Raises ConfigError if the encoder gives no tokens of patches, or has a layer above them.
    """
    if not can(encoder, HasTokens):
        what = f"{type(encoder).__name__} gives no tokens of patches"
        raise ConfigError(f"encoder: {what}, which {name} needs; expected a vision transformer such as vit")
    if encoder.dim:
        raise ConfigError(f"encoder.dim: {name} trains tokens and no layer above them, expected 0")
    _, h, w, P = encoder.patches(torch.zeros(1, *ctx.image_shape)).shape
    if h * w < 2:
        raise ConfigError(f"encoder.patch_size: views have {h * w} patch, {name} needs at least 2")
    return h, w, P


class Predictor(nn.Module):
    """A narrow transformer that predicts vectors at some patches of a grid from tokens at others."""

    def __init__(self, features: int, out: int, grid: tuple[int, int], width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(features, width), nn.Linear(width, out)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.asked = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Buffer(sincos(grid, grid, width), persistent=False)
        initialize(self)

    def forward(self, tokens: Tensor, at: Tensor, ask: Tensor) -> Tensor:
        """Tokens (B, K, F) of the patches `at` (B, K) -> predictions for the patches `ask` (B, M), (B, M, out)."""
        h = torch.cat([self.enter(tokens) + self.positions[at], self.asked + self.positions[ask]], dim=1)
        for block in self.blocks:
            h = block(h)
        return self.leave(self.norm(h[:, at.shape[1] :]))


def shuffled(keys: Tensor, patches: int) -> Tensor:
    """A random order of the patches for each key, (B,) -> (B, T)."""
    return bits(keys, patches).argsort(dim=1)


def scattered(keys: Tensor, patches: int, share: tuple[float, float], whole: float) -> Tensor:
    """Which patches are hidden for each key, (B,) -> (B, T): a share in a range, or none with probability `whole`."""
    chance, amount = uniform(keys, 2).unbind(dim=1)
    part = torch.where(chance < whole, 0.0, share[0] + (share[1] - share[0]) * amount)
    rank = bits(mix(keys), patches).argsort(dim=1).argsort(dim=1)
    return rank < (part * patches).round()[:, None]


def covered(x: Tensor, hidden: Tensor, patch: Tensor) -> Tensor:
    """Images (B, C, H, W) with a patch (C, s, s) in place of the hidden ones, (B, h, w)."""
    (H, W), (h, w), side = x.shape[2:], hidden.shape[1:], patch.shape[1]
    mask = hidden[:, None].repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
    return torch.where(mask[:, :, :H, :W], patch.repeat(1, h, w)[:, :H, :W], x)


def block_size(
    key: Tensor, grid: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int]:
    """A random height and width in patches: a share in `scale` of the grid, and a height over width in `ratio`."""
    (h, w), (share, shape) = grid, uniform(key, 2).tolist()
    area = h * w * (scale[0] + share * (scale[1] - scale[0]))
    stretch = ratio[0] + shape * (ratio[1] - ratio[0])
    high, wide = round(math.sqrt(area * stretch)), round(math.sqrt(area / stretch))
    return min(max(1, high), max(1, h - 1)), min(max(1, wide), max(1, w - 1))


def blocks(keys: Tensor, grid: tuple[int, int], size: tuple[int, int], count: int) -> Tensor:
    """Positions of the patches of random blocks of this size, for each key, (B,) -> (B, count, M)."""
    (h, w), (high, wide) = grid, size
    place = uniform(keys, 2 * count).unflatten(1, (count, 2))
    top = (place[..., 0] * (h - high + 1)).long()
    left = (place[..., 1] * (w - wide + 1)).long()
    rows, columns = torch.arange(high, device=keys.device)[:, None], torch.arange(wide, device=keys.device)
    return (top * w + left)[..., None] + (rows * w + columns).flatten()


def others(keys: Tensor, hidden: Tensor, patches: int, count: int) -> Tensor:
    """Random positions (B, K) that are not among the hidden ones (B, M), at least one; hidden ones if there is none."""
    order = (bits(mix(keys), patches) >> 1).scatter(1, hidden, torch.iinfo(torch.int64).max)
    return order.argsort(dim=1, stable=True)[:, : max(1, count)]
