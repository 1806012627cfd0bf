"""The whole set as one tensor: the loader for any set that fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sslx.api import ConfigError, Loader, Split


class Memory(Loader):
    """Keeps all images on the device as uint8, a quarter of what floats take, and picks batches by their index."""

    def open(self, split: Split, device: torch.device) -> None:
        images = split.images
        try:
            self._images = (images if isinstance(images, Tensor) else images[torch.arange(len(images))]).to(device)
        except (RuntimeError, MemoryError) as error:  # torch has no kind of its own for a CPU's
            size = images.shape.numel() / 1e9
            raise ConfigError(f"loader: {size:,.1f} GB of images do not fit into memory; use loader=ffcv") from error

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        for index in indices:
            # Each image is one piece of memory to this, which `images[index]` does not see: several times slower.
            yield self._images.index_select(0, index.to(self._images.device, non_blocking=True))
