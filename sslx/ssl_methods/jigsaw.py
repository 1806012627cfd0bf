import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sslx.api import ConfigError, Context, Projected, Terms, Views, option


class Jigsaw(Projected):
    """Predicts which of P permutations was applied to the tiles of a view (Noroozi & Favaro 2016).

        minimize -log softmax(g(f(x_σ)))_σ, σ uniform over the permutations

    The permutations are chosen one by one to differ most from those chosen before (Algorithm 1). The network sees the
    permuted image as a whole (Carlucci et al. 2019), so any encoder can be used; pixels beyond the last tile stay.
    """

    grid: int = option(default=3, gt=1, le=8, help="Number of tiles along each side.")
    permutations: int = option(default=30, gt=1, help="Number of permutations with the identity (P); 100 in the paper.")

    def build_head(self, ctx: Context) -> Context:
        if min(ctx.image_shape[1:]) < self.grid:
            raise ConfigError(f"grid: expected at most the side of the image, {min(ctx.image_shape[1:])}")
        ctx = super().build_head(ctx)
        self.orders = nn.Buffer(distant_permutations(self.grid**2, self.permutations))  # (P, tiles)
        self.head.append(nn.Linear(ctx.latent, len(self.orders)))
        return ctx.but(latent=len(self.orders))

    def shuffle(self, x: Tensor, orders: Tensor) -> Tensor:
        """Images (B, C, H, W) with permuted tiles: place t of image b gets the tile orders[b, t]."""
        B, C, H, W = x.shape
        g, h, w = self.grid, H // self.grid, W // self.grid
        tiles = x[:, :, : g * h, : g * w].reshape(B, C, g, h, g, w).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        moved = tiles[torch.arange(B, device=x.device)[:, None], orders].unflatten(1, (g, g))
        x = x.clone()
        x[:, :, : g * h, : g * w] = moved.permute(0, 3, 1, 4, 2, 5).reshape(B, C, g * h, g * w)
        return x

    def forward(self, views: Views) -> Terms:
        x = views.flat
        y = torch.randint(len(self.orders), (len(x),), device=x.device)
        return Terms(permutation=cross_entropy(self.embed(self.shuffle(x, self.orders[y])), y))


def distant_permutations(items: int, count: int) -> Tensor:
    """The identity, then always the random candidate furthest from all before, (count, items) or fewer rows."""
    chosen = torch.arange(items)[None]
    candidates = torch.rand(100 * count, items).argsort(dim=1)
    nearest = torch.full((len(candidates),), items)
    while len(chosen) < count:
        nearest = nearest.minimum((candidates != chosen[-1]).sum(dim=1))  # Hamming distance to the nearest chosen
        if not nearest.any():
            break
        chosen = torch.cat([chosen, candidates[nearest.argmax()][None]])
    return chosen
