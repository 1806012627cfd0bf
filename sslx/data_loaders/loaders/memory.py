from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sslx.api import ConfigError, Loader, Split
from sslx.data_loaders.buffers import sent


class Memory(Loader):
    """Keeps all images on the device as uint8, a quarter of the size of floats, and picks batches by their index."""

    def open(self, split: Split, device: torch.device) -> None:
        images = split.images
        try:
            self._images = (images if isinstance(images, Tensor) else images[torch.arange(len(images))]).to(device)
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError on a CPU
            size = images.shape.numel() / 1e9
            raise ConfigError(f"loader: {size:,.1f} GB of images do not fit into memory; use loader=ffcv") from error

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        for index in indices:
            # index_select copies each image as one piece of memory; `images[index]` is several times slower.
            yield self._images.index_select(0, sent(index, self._images.device))
