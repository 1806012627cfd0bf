"""What a method is given: several views of each image of a batch."""

from __future__ import annotations

import attrs
from torch import Tensor

__all__ = ["Views"]


@attrs.frozen(eq=False)
class Views:
    """J augmented views of each of N images.

    `x` is (N, J, C, H, W), floats in [0, 1], unless a policy adds noise; `original` is (N, C, H, W), the images
    themselves as floats in [0, 1]; `index` is (N,), the position of each image in its dataset; `local` is
    (N, K, C, h, w), further views, usually smaller, of the policies that make them (multi-crop).
    """

    x: Tensor
    original: Tensor
    index: Tensor
    local: Tensor | None = None

    @property
    def count(self) -> int:
        """J, the number of views of each image."""
        return self.x.shape[1]

    @property
    def flat(self) -> Tensor:
        """All views as one batch: (B, C, H, W), B = N·J."""
        return self.x.flatten(0, 1)

    def group(self, z: Tensor) -> Tensor:
        """Undo `flat` for anything computed from it: (B, ...) -> (N, J, ...)."""
        return z.unflatten(0, (-1, self.count))
