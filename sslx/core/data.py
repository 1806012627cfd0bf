"""Stored images: a split of a dataset, and images that are read from files on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sslx.core.errors import ConfigError
from sslx.core.randomness import Use, permutation

__all__ = ["Lazy", "Source", "Split", "pixels", "resized"]

_LOOKED_AT = 16  # batches of images in which `remark` looks for a difference
_NUMBERS = 1 << 22  # most numbers in a batch of images that needs no gradient


def pixels(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]. Float images are returned unchanged."""
    return images if images.is_floating_point() else images.to(torch.float32).div_(255)


def in_bytes(images: Tensor, name: str) -> Tensor:
    """uint8 images as they are, floats in [0, 1] rounded to the 256 levels of uint8. Raises ConfigError for others.

    Args:
        name: what the error calls the images.
    """
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        dtype = str(images.dtype).removeprefix("torch.")
        raise ConfigError(f"{name}: expected images of uint8, or of floats in [0, 1], got {dtype}")
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):  # not a number compares false
        raise ConfigError(f"{name}: expected images of floats in [0, 1], or of uint8, got {low:g} to {high:g}")
    return (images * 255).round().to(torch.uint8)


def resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """Floats (B, C, H, W) -> (B, C, h, w) by antialiased bilinear interpolation; unchanged if they have this size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return interpolate(images, size=tuple(size), mode="bilinear", antialias=True)


class Source(ABC):
    """Images that are read on demand, because they do not all fit into memory."""

    image_shape: tuple[int, int, int]  # (C, H, W)

    @abstractmethod
    def read(self, index: Tensor) -> Tensor:
        """(k,) positions -> their images, (k, C, H, W) uint8. Every call returns the same images."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Fingerprint that changes whenever the images change."""


@attrs.frozen(eq=False)
class Lazy:
    """Some images of a source, used like a tensor: `lazy[index]` reads (k, C, H, W) uint8."""

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

    Attributes:
        images: (n, C, H, W) uint8; float32 for data without 256 levels, such as points in the plane; or Lazy.
        labels: (n,) int64, or None.
        factors: known causes of variation by name, each (n,).
        sizes: (n, 2), heights and widths before the images were resized to (H, W). Crops are drawn in these sizes.
        fresh: function of (seed, epoch) that generates the images of an epoch, for datasets that generate them.
        skipped: files that were left out, with the reasons.
        paths: the n files of the images, where each image has one.
        arity: number of consecutive images that belong together, such as the three digits of a sum. They are in the
            same batch, side by side.
        classes: names of the classes in the order of their numbers, where they have names.
    """

    images: Tensor | Lazy
    labels: Tensor | None = None
    factors: Mapping[str, Tensor] = attrs.field(factory=dict)
    sizes: Tensor | None = None
    fresh: Callable[[int, int], Tensor] | None = None
    skipped: Sequence[str] = ()
    paths: Sequence[Path] | None = None
    arity: int = 1
    classes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.images)

    def problem(self) -> str:
        """What is wrong with the split, or an empty string."""
        n, shape, dtype = len(self), tuple(self.images.shape), self.images.dtype
        if len(shape) != 4 or dtype not in (torch.uint8, torch.float32):
            found = f"{shape} {str(dtype).removeprefix('torch.')}"
            return f"expected images as (n, C, H, W) uint8 or float32, got {found}"
        if self.labels is not None and len(self.labels) != n:
            return f"{n} images, but {len(self.labels)} labels"
        if self.sizes is not None and self.sizes.shape != (n, 2):
            return f"expected sizes as ({n}, 2), got {tuple(self.sizes.shape)}"
        if self.classes and self.labels is not None and n and int(self.labels.max()) >= len(self.classes):
            return f"{len(self.classes)} names of classes, but labels up to {int(self.labels.max())}"
        return f"{n} images, but every {self.arity} belong together" if n % self.arity else ""

    def remark(self) -> str:
        """A sentence if nothing can be learned from the images, as all that were looked at are equal, or ""."""
        first = self.images[torch.zeros(1, dtype=torch.int64)]
        parts = torch.arange(len(self)).split(256)[:_LOOKED_AT]
        if len(self) < 2 or not all(bool((self.images[part] == first).all()) for part in parts):
            return ""
        what = "equal" if first.any() else "black"
        looked_at = f"all {len(self)}" if sum(map(len, parts)) == len(self) else f"the first {sum(map(len, parts))}"
        return f"{looked_at} training images are {what}, so nothing can be learned from them"

    def batches(self, device: torch.device, size: int = 1024, share: tuple[int, int] = (0, 1)) -> Iterator[Tensor]:
        """Images in order as floats on the device, `size` at a time, or fewer if they are large.

        Args:
            share: (i, n) for the i-th of n shares of the batches, which follow each other; (0, 1) for all of them.
        """
        size = max(1, min(size, _NUMBERS // self.images.shape[1:].numel()))
        batches, (i, n) = torch.arange(len(self)).split(size), share
        for index in batches[i * len(batches) // n : (i + 1) * len(batches) // n]:
            yield pixels(self.images[index].to(device))

    def take(self, index: Tensor) -> Split:
        """The images at (k,) positions, or where an (n,) mask is true. It must keep images together that belong so."""
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
        """A `permutation` of all positions, (n,), that keeps images that belong together side by side."""
        first = permutation(len(self) // self.arity, use, *parts) * self.arity
        return (first[:, None] + torch.arange(self.arity)).flatten()
