"""The input of a method: several views of each image of a batch."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from sslx.core.randomness import Use, key

__all__ = ["Views"]


@attrs.frozen(eq=False)
class Views:
    """J augmented views of each of N images.

    Attributes:
        x: the views, (N, J, C, H, W) floats in [0, 1] unless the policy adds noise.
        original: the images themselves, (N, C, H, W) floats in [0, 1].
        index: position of each image in its dataset, (N,).
        local: further, usually smaller views of a multi-crop policy, (N, K, C, h, w), or None.
        seed: the seed of the run; the engine fills it in.
        epoch: the epoch of the run; the engine fills it in.
    """

    x: Tensor
    original: Tensor
    index: Tensor
    local: Tensor | None = None
    seed: int = 0
    epoch: int = 0

    @property
    def count(self) -> int:
        """J, the number of views of each image."""
        return self.x.shape[1]

    @property
    def flat(self) -> Tensor:
        """All views as one batch: (B, C, H, W), B = N·J."""
        return self.x.flatten(0, 1)

    def group(self, z: Tensor) -> Tensor:
        """Undo `flat` for a tensor computed from it: (B, ...) -> (N, J, ...)."""
        return z.unflatten(0, (-1, self.count))

    def keys(self, use: Use) -> Tensor:
        """A key of each view for random numbers such as masks, (B,): a function of (seed, epoch, index, view)."""
        view = torch.arange(self.count, device=self.index.device)
        return key(use, self.seed, self.epoch, self.index[:, None], view).flatten()
