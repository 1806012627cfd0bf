"""Images as they are stored: a split of a dataset, and images that are read when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from sslx.core.randomness import Use, permutation

__all__ = ["Lazy", "Source", "Split", "pixels"]

_NUMBERS = 1 << 22  # of a batch of images that need no gradient


def pixels(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floats as they are."""
    return images if images.is_floating_point() else images.to(torch.float32).div_(255)


class Source(ABC):
    """Images that are read when they are asked for, as all of them would not fit into memory."""

    image_shape: tuple[int, int, int]  # (C, H, W)

    @abstractmethod
    def read(self, index: Tensor) -> Tensor:
        """(k,) positions -> their images, (k, C, H, W) uint8. The same ones every time."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A text that is another one as soon as the images are others."""


@attrs.frozen(eq=False)
class Lazy:
    """Some images of a source, in the place of a tensor of them: `lazy[index]` reads (k, C, H, W) uint8."""

    source: Source
    index: Tensor  # (n,) positions in the source

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.index), *self.source.image_shape))

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.source.read(self.index[index])

    def take(self, index: Tensor) -> Lazy:
        return Lazy(self.source, self.index[index])


@attrs.frozen(eq=False)
class Split:
    """The training or the test half of a dataset.

    `images` is (n, C, H, W) uint8, or float32 where there are no 256 levels, as of points in the plane, or Lazy;
    `labels` (n,) int64 or None; `factors` known causes of variation by name, each (n,); `sizes` (n, 2) the heights and
    widths that images of several sizes had before all were made (H, W), in which crops are drawn; `fresh` a function of
    (seed, epoch) that makes the images of an epoch, where they are generated; `skipped` the files that were left out,
    with the reasons; `paths` the n files that the images are from, where each has one. Every `arity` consecutive images
    belong together, such as the three digits of a sum: they come in one batch, side by side.
    """

    images: Tensor | Lazy
    labels: Tensor | None = None
    factors: Mapping[str, Tensor] = attrs.field(factory=dict)
    sizes: Tensor | None = None
    fresh: Callable[[int, int], Tensor] | None = None
    skipped: Sequence[str] = ()
    paths: Sequence[Path] | None = None
    arity: int = 1

    def __len__(self) -> int:
        return len(self.images)

    def problem(self) -> str:
        """What is wrong with it, or an empty text."""
        n, shape, dtype = len(self), tuple(self.images.shape), self.images.dtype
        if len(shape) != 4 or dtype not in (torch.uint8, torch.float32) or n == 0:
            found = f"{shape} {str(dtype).removeprefix('torch.')}"
            return f"expected images as (n, C, H, W) uint8 or float32, got {found}"
        if self.labels is not None and len(self.labels) != n:
            return f"{n} images, but {len(self.labels)} labels"
        if self.sizes is not None and self.sizes.shape != (n, 2):
            return f"expected sizes as ({n}, 2), got {tuple(self.sizes.shape)}"
        return f"{n} images, but every {self.arity} belong together" if n % self.arity else ""

    def batches(self, device: torch.device, size: int = 1024) -> Iterator[Tensor]:
        """All images in order, `size` at a time or fewer if they are large, as floats on the device."""
        size = max(1, min(size, _NUMBERS // self.images.shape[1:].numel()))
        for index in torch.arange(len(self)).split(size):
            yield pixels(self.images[index].to(device))

    def take(self, index: Tensor) -> Split:
        """Those at (k,) positions, or where an (n,) mask is true. What belongs together must stay so."""
        images, fresh, paths = self.images, self.fresh, self.paths
        return attrs.evolve(
            self,
            images=images.take(index) if isinstance(images, Lazy) else images[index],
            labels=None if self.labels is None else self.labels[index],
            factors={name: values[index] for name, values in self.factors.items()},
            sizes=None if self.sizes is None else self.sizes[index],
            fresh=None if fresh is None else lambda seed, epoch: fresh(seed, epoch)[index],
            paths=None if paths is None else [paths[i] for i in torch.arange(len(self))[index].tolist()],
        )

    def shuffled(self, use: Use, *parts: int) -> Tensor:
        """A `permutation` of the positions of all images, (n,), in which those that belong together stay so."""
        first = permutation(len(self) // self.arity, use, *parts) * self.arity
        return (first[:, None] + torch.arange(self.arity)).flatten()
