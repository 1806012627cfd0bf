"""FFCV (Leclerc et al. 2023): images from a memory-mapped `.beton` file, read by threads that work ahead."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from sslx.api import ConfigError, DataError, Lazy, Loader, Split, option, printable, say
from sslx.data_loaders import beton
from sslx.data_loaders.buffers import Pool
from sslx.data_loaders.datasets.downloads import cache_folder
from sslx.data_loaders.workers import workers

_AHEAD = 3  # batches that are read before they are needed; each thread reads one, so more threads need more batches


class FFCV(Loader):
    """Reads images from a `.beton` file, in the same order as the memory loader.

    A training set is converted once, into a cache, a few images at a time; the name of its file is a hash of its
    content. The dataset `beton` is read from its own file. With `storage=raw` the images, and thus the run, are the
    same, bit for bit, as with the memory loader.
    """

    storage: Literal["raw", "jpeg"] = option(
        default="raw", help="How pixels are stored: raw is exact; jpeg takes about half the space and is not exact."
    )
    quality: int = option(default=95, ge=1, le=100, help="Quality of JPEG storage.")
    cache: Path | None = option(default=None, help="Folder of converted datasets; by default sslx/beton in your cache.")
    threads: int | None = option(default=None, gt=0, help="Number of reading threads; by default that of torch.")

    def open(self, split: Split, device: torch.device) -> None:
        beton.require()
        images = split.images
        if images.dtype != torch.uint8:
            raise ConfigError("loader: ffcv stores uint8 images, but this dataset has floats; use the memory loader")
        if isinstance(images, Lazy) and isinstance(images.source, beton.Beton):
            self._file, self._positions = images.source, images.index.numpy()
        else:
            self._file, self._positions = beton.Beton(self._converted(images)), np.arange(len(images))
        self._device, self._threads = device, self.threads or torch.get_num_threads()
        self._pool = Pool(max(_AHEAD, self._threads) + 4)

    def _converted(self, images: Tensor | Lazy) -> Path:
        """The file of a set in the cache, written now if it is missing; one of several processes writes it."""
        digest = hashlib.blake2b(repr(tuple(images.shape)).encode(), digest_size=16)
        if isinstance(images, Lazy):
            digest.update(images.source.identity.encode())
        digest.update(np.ascontiguousarray((images.index if isinstance(images, Lazy) else images).numpy()).data)
        kind = "raw" if self.storage == "raw" else f"jpeg{self.quality}"
        folder = (self.cache or cache_folder() / "beton").expanduser()
        path = folder / f"{digest.hexdigest()}-{kind}.beton"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            missing = not path.exists()
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    beton.write([Split(images)], path, self.storage, self.quality)
            if missing:  # whichever process wrote it
                say(f"loader ffcv: converted {len(images)} images to {path}, {path.stat().st_size / 1e6:,.0f} MB")
        except OSError as error:
            where = printable(str(folder))
            raise DataError(f"{where} cannot be used ({error.strerror}); choose another loader.cache") from error
        return path

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        ahead = deque[Future[Tensor]]()
        try:
            for index in indices:
                ahead.append(workers("loader", self._threads).submit(self._read, index))
                if len(ahead) > max(_AHEAD, self._threads):
                    yield ahead.popleft().result().to(self._device)
            while ahead:
                yield ahead.popleft().result().to(self._device)
        finally:
            for batch in ahead:  # if the epoch is not finished
                batch.cancel()

    def _read(self, index: Tensor) -> Tensor:
        images = self._pool.empty((len(index), *self._file.image_shape), np.uint8)
        self._file.fill(self._positions[index.numpy()], images)
        return torch.from_numpy(images)
