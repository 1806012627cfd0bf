"""A vision transformer for images of any size, and the parts of it that masked methods use as well."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from sslx.api import ConfigError, Context, Encoder, option

# Pixels are standardized roughly, as those of photographs would be: else positions outweigh what the patches show.
_MEAN, _STD = 0.5, 0.25


def picked(x: Tensor, index: Tensor) -> Tensor:
    """The vectors (B, T, F) of the patches at these positions, (B, K) -> (B, K, F)."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


def cut(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, H, W) -> patches of this size, (B, h, w, P); the right and bottom are padded with zeros."""
    h, w = size
    x = pad(x, (0, -x.shape[3] % w, 0, -x.shape[2] % h))
    return x.unfold(2, h, h).unfold(3, w, w).permute(0, 2, 3, 1, 4, 5).flatten(3)


def sincos(grid: tuple[int, int], shape: tuple[int, int], width: int) -> Tensor:
    """Position embeddings of h × w patches in the coordinates of another grid, (h·w, width): sines and cosines.

    A quarter of them each are sines and cosines of the row and of the column, with wavelengths from 2π to 10⁴·2π.
    """
    (h, w), (rows, columns) = grid, shape
    y = (torch.arange(h, dtype=torch.float64) + 0.5) * rows / h - 0.5
    x = (torch.arange(w, dtype=torch.float64) + 0.5) * columns / w - 0.5
    frequency = 10_000.0 ** -torch.arange(0, 1, 4 / width, dtype=torch.float64)
    angles = torch.cat([y.repeat_interleave(w)[:, None] * frequency, x.repeat(h)[:, None] * frequency], dim=1)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); in training each is left out for some images (Huang et al. 2016).

    The names of the weights are those of timm.
    """

    def __init__(self, width: int, heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.heads, self.drop_path = heads, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, F)."""
        x = x + self.kept(self.attend(self.norm1(x)))
        return x + self.kept(self.mlp["fc2"](gelu(self.mlp["fc1"](self.norm2(x)))))

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, T, ·)
        return self.attn["proj"](scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def kept(self, x: Tensor) -> Tensor:
        if not (self.training and self.drop_path):
            return x
        share = 1 - self.drop_path
        return x * (torch.rand(len(x), 1, 1, device=x.device) < share) / share


def initialize(module: nn.Module) -> None:
    """Weights of linear layers as in MAE: uniform, by Glorot & Bengio 2010, and without biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def check_width(name: str, width: int, heads: int) -> None:
    """Raise ConfigError if the width does not suit the position embeddings or the attention heads."""
    if width % 4 or width % heads:
        raise ConfigError(f"{name}: expected a multiple of 4 and of the number of heads, {heads}; got {width}")


class ViTEncoder(Encoder):
    """A vision transformer (Dosovitskiy et al. 2021) for images of any size, with fixed position embeddings.

    Positions have sines and cosines as in MAE, which for images of another size than the views are stretched to the
    same range. Images that are not whole patches wide or high are padded with grey at the right and bottom. The
    defaults are those of DeiT-Ti with half its depth and small patches; ViT-S has `width=384` and `heads=6`, ViT-B
    `width=768` and `heads=12`, and `depth=12` both.
    """

    patch_size: int = option(default=4, gt=0, help="Side of a patch in pixels.")
    width: int = option(default=192, gt=0, help="Width of the tokens (F).")
    depth: int = option(default=6, gt=0, help="Number of blocks.")
    heads: int = option(default=3, gt=0, help="Number of attention heads in each block.")
    pool: Literal["mean", "class"] = option(
        default="mean",
        help="Features of an image: the mean of the tokens of its patches, or an additional class token.",
    )
    registers: int = option(
        default=0, ge=0, help="Number of additional tokens that nothing reads (Darcet et al. 2024)."
    )
    drop_path: float = option(
        default=0.0, ge=0, lt=1, help="Probability that an image skips the last block; less for blocks before it."
    )

    def build(self, ctx: Context) -> Context:
        check_width("encoder.width", self.width, self.heads)
        F, blank = self.width, torch.zeros(1, *ctx.image_shape)
        _, h, w, P = self.patches(blank).shape
        self.image_shape, self.grid = ctx.image_shape, (h, w)
        self.extra = (self.pool == "class") + self.registers
        if self.extra:
            self.prefix = nn.Parameter(0.02 * torch.randn(self.extra, F))  # the class token, then the registers
        self.embed = nn.Linear(P, F)
        rates = [self.drop_path * i / max(1, self.depth - 1) for i in range(self.depth)]
        self.blocks = nn.ModuleList(Block(F, self.heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(F, eps=1e-6)
        self.positions = nn.Buffer(sincos(self.grid, self.grid, F), persistent=False)
        initialize(self)
        return self.head(ctx, F)

    def patches(self, x: Tensor) -> Tensor:
        return cut(x, (self.patch_size, self.patch_size))

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.encode(x, keep)[:, self.extra :]

    def features(self, x: Tensor) -> Tensor:
        h = self.encode(x)
        return h[:, 0] if self.pool == "class" else h[:, self.extra :].mean(dim=1)

    def encode(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> the class token and registers, if there are any, and the tokens of patches, (B, T', F)."""
        x = self.patches((x - _MEAN) / _STD)
        h, w = x.shape[1:3]
        same = (h, w) == self.grid
        positions = self.positions if same else sincos((h, w), self.grid, self.width).to(x.device)
        x = self.embed(x.flatten(1, 2)) + positions
        if keep is not None:
            x = picked(x, keep)
        if self.extra:
            x = torch.cat([self.prefix.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def timm(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        C, H, W = self.image_shape
        p, classes = self.patch_size, self.pool == "class"
        if H % p or W % p:
            raise ConfigError(f"timm makes no positions for padding, which images of {H}x{W} need for patches of {p}")
        arguments = {
            "img_size": (H, W), "patch_size": p, "in_chans": C, "embed_dim": self.width, "depth": self.depth,
            "num_heads": self.heads, "class_token": classes, "global_pool": "token" if classes else "avg",
            "reg_tokens": self.registers, "no_embed_class": True, "fc_norm": False,
        }  # fmt: skip
        weights = {k: w for k, w in self.state_dict().items() if k.startswith(("blocks.", "norm."))}
        weights["patch_embed.proj.weight"] = self.embed.weight.detach().unflatten(1, (C, p, p))
        weights["patch_embed.proj.bias"] = self.embed.bias.detach()
        weights["pos_embed"] = self.positions[None]
        weights |= {"cls_token": self.prefix.detach()[None, :1]} if classes else {}
        weights |= {"reg_token": self.prefix.detach()[None, int(classes) :]} if self.registers else {}
        known = {"classifier": "head", "fixed_input_size": True, "mean": [_MEAN] * C, "std": [_STD] * C}
        config = {"architecture": "vit_tiny_patch16_224", "model_args": arguments, "pretrained_cfg": known}
        return config, weights
