"""The floors of tables: the pixels of an image, and their principal components."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from sslx.api import Context, Delta, Encoder, Split, Use, permutation, pixels, resized, seed_of

_MOST_NUMBERS = 1 << 28  # of the images that are fitted, 1 GiB as float32
_EXACT = 4096  # pixels up to which the whole covariance is decomposed


class PixelsEncoder(Encoder):
    """The pixels themselves, in [0, 1]. Nothing is learned.

    Images of another size than the views are scaled to it.
    """

    ignored = frozenset({"dim", "posterior"})

    def build(self, ctx: Context) -> Context:
        self.size = ctx.image_shape[1:]
        return ctx.but(latent=math.prod(ctx.image_shape))

    def forward(self, x: Tensor) -> Distribution:
        return Delta(resized(x, self.size).flatten(1))


class PCAEncoder(PixelsEncoder):
    """The principal components of the pixels of the training images: min(dim, rank) of them, not whitened.

    They are scikit-learn's, of all training images or of a random sample of them if all would need more than 1 GiB.
    """

    ignored = frozenset({"posterior"})

    def build(self, ctx: Context) -> Context:
        wide = super().build(ctx).latent
        most = max(1, min(self.dim or wide, wide, ctx.samples - 1))
        self.mean = nn.Buffer(torch.zeros(wide))
        self.axes = nn.Buffer(torch.eye(most, wide))  # until `begin` these are the first pixels
        self.rank = nn.Buffer(torch.tensor(most))
        return ctx.but(latent=most)

    def begin(self, train: Split) -> None:
        from sklearn.decomposition import PCA

        n, wide, most = len(train), len(self.mean), len(self.axes)
        some = permutation(n, Use.EVALUATION, 0)[: max(most + 1, _MOST_NUMBERS // wide)].sort().values
        x = np.empty((len(some), wide), np.float32)
        for start, index in zip(range(0, len(some), 1024), some.split(1024), strict=True):
            x[start : start + 1024] = self._flat(train.images[index])
        exact = len(x) > wide and wide <= _EXACT
        solver = "covariance_eigh" if exact else "randomized"
        # Without a copy, as these may be 1 GiB.
        found = PCA(most, copy=False, svd_solver=solver, random_state=seed_of(Use.EVALUATION, 0) % 2**32).fit(x)
        spread = found.explained_variance_
        self.mean.copy_(torch.from_numpy(found.mean_))
        self.axes.copy_(torch.from_numpy(found.components_))
        self.rank.fill_(max(1, int((spread > 1e-7 * spread.max()).sum())))  # float32 leaves no more

    def _flat(self, images: Tensor) -> np.ndarray:
        return resized(pixels(images), self.size).flatten(1).numpy()

    def forward(self, x: Tensor) -> Distribution:
        with torch.autocast(x.device.type, enabled=False):
            centred = resized(x.float(), self.size).flatten(1) - self.mean
            return Delta(centred @ self.axes[: int(self.rank)].T)
