"""FFCV (Leclerc et al. 2023): images from a memory-mapped file, decoded once each by threads that work ahead.

What FFCV 1.0.2 would do by itself, and this does not let happen: it takes threads from torch and numba, hands out
buffers that it overwrites five batches later, and leaves a thread and its buffers behind when an epoch is not finished.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import queue
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from sslx.api import ConfigError, DataError, Loader, Split, option
from sslx.data_loaders import beton

_CHECKED = 32  # images of a user's file that are compared with the dataset
_JPEG_ERROR = (
    40.0  # mean difference of levels; that of unrelated photographs is about 70, of JPEG at quality 10 about 8
)


class FFCV(Loader):
    """Reads what the memory loader holds from a `.beton` file instead, in the same order.

    The training set is converted once, into a cache; its name there is a hash of the pixels. `file` is one written by
    `sslx data convert`. With `storage=raw` the images are the same to the bit, and so is a run.
    """

    storage: Literal["raw", "jpeg"] = option(default="raw", help="jpeg: about half the size, not quite the same images")
    quality: int = option(default=95, ge=1, le=100, help="of JPEG")
    file: Path | None = option(default=None, help="a .beton file of the training set, instead of the cache")
    cache: Path | None = option(default=None, help="where converted sets are; none: sslx/beton in your cache folder")
    threads: int | None = option(default=None, gt=0, help="threads that decode; none: as many as torch has")

    def open(self, split: Split, device: torch.device) -> None:
        beton.require()
        import numba  # comes with FFCV

        if split.images.dtype != torch.uint8:
            raise ConfigError("loader: ffcv stores images of uint8, and this dataset has floats; use the memory loader")
        self._device, self._channels = device, split.images.shape[1]
        self._epoch: _Epoch | None = None
        path = self.file.expanduser().resolve() if self.file is not None else self._converted(split.images)
        storage = beton.check(path, split.images)
        limits: Any = numba.config
        threads = min(self.threads or torch.get_num_threads(), limits.NUMBA_NUM_THREADS)
        with beton.threads_kept():
            from ffcv.loader import Loader as Reader

            self._reader: Any = Reader(str(path), batch_size=1, num_workers=threads, drop_last=False)
        if self.file is not None:
            self._compare(path, split.images, 0.0 if storage == "raw" else _JPEG_ERROR)

    def _converted(self, images: Tensor) -> Path:
        """The set's file in the cache, written now if need be. Processes that want the same one wait for the first."""
        digest = hashlib.blake2b(repr(tuple(images.shape)).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(images.numpy()).data)
        kind = "raw" if self.storage == "raw" else f"jpeg{self.quality}"
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = (self.cache or user / "sslx" / "beton").expanduser()
        path = folder / f"{digest.hexdigest()}-{kind}.beton"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    beton.write(images, path, self.storage, self.quality)
                    size = path.stat().st_size / 1e6
                    print(f"loader ffcv: converted {len(images)} images to {path}, {size:,.0f} MB", file=sys.stderr)
        except OSError as error:
            raise DataError(
                f"{folder} cannot be used ({error.strerror}); set loader.cache to another folder"
            ) from error
        return path

    def _compare(self, path: Path, images: Tensor, tolerance: float) -> None:
        """Raises DataError if the file holds other images, of which a few are decoded to see."""
        index = torch.arange(0, len(images), -(-len(images) // _CHECKED))
        found = torch.cat([batch.cpu() for batch in self.batches([index])])
        difference = (found.float() - images[index].float()).abs().mean(dim=(1, 2, 3)).max()
        if difference > tolerance:
            raise DataError(f"{path} has other images than the training set; convert it again")

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        for size, group in itertools.groupby(indices, key=len):  # FFCV cuts an order into batches of one size
            yield from self._equal_batches(list(group), size)

    def _equal_batches(self, indices: Sequence[Tensor], size: int) -> Iterator[Tensor]:
        if self._epoch is not None:
            self._epoch.close()  # left by whoever still holds an older iterator
        self._epoch = epoch = _Epoch(self._reader, torch.cat(list(indices)).numpy(), size)
        try:
            for images in epoch:
                yield self._bring(images)
        finally:
            epoch.close()

    def _bring(self, images: Tensor) -> Tensor:
        """FFCV's batch as (n, C, H, W) on the device."""
        pixels = images.numpy()
        if self._reader_is_rgb:
            pixels = pixels.transpose(0, 3, 1, 2)[:, : self._channels]
        # By numpy, which takes this thread alone: torch's threads and FFCV's would wait for each other's processors.
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device)

    @property
    def _reader_is_rgb(self) -> bool:
        return bool(self._reader.reader.metadata.dtype["f0"].names)  # an array's metadata is its address alone


class _Epoch:
    """One pass of FFCV over an order of images. It works ahead in a thread, which `close` ends."""

    def __init__(self, reader: Any, order: np.ndarray, size: int) -> None:
        from ffcv.loader.epoch_iterator import EpochIterator

        class Fresh(EpochIterator):  # type: ignore[misc]
            """FFCV's own, but no buffer is used twice: a batch is whoever's it was given to, without a copy."""

            memory_allocations: Any

            def start(self) -> None:
                self.memory_allocations = defaultdict(dict, _fresh(self.memory_allocations))
                super().start()

        reader.batch_size = size  # read by the iterator alone
        with beton.threads_kept():
            self._iterator: Any = Fresh(reader, order.astype(np.uint64))
        self._count = -(-len(order) // size)

    def __iter__(self) -> Iterator[Tensor]:
        for i in range(self._count):
            if i == 0:
                with beton.threads_kept():  # its thread takes them before the first batch is ready
                    (images,) = next(self._iterator)
            else:
                (images,) = next(self._iterator)
            yield images

    def close(self) -> None:
        """End the thread, wherever it is: computing, waiting for room in its queue, or done."""
        iterator = self._iterator
        iterator.iter_ixes = iter(())  # nothing more to compute
        while iterator.is_alive():
            try:
                iterator.output_queue.get_nowait()
            except queue.Empty:
                iterator.join(0.001)
        iterator.close()


class _Buffers:
    """Stands for FFCV's array of buffers, (slots, n, ...), and gives a new one whenever a slot is asked for."""

    def __init__(self, buffers: np.ndarray) -> None:
        self._shape, self._dtype = buffers.shape[1:], buffers.dtype

    def __getitem__(self, slot: int) -> np.ndarray:
        return np.empty(self._shape, self._dtype)


def _fresh(buffers: Any) -> Any:
    """FFCV's buffers, by node and in tuples where a node has several, each replaced."""
    if isinstance(buffers, dict):
        return {node: _fresh(part) for node, part in buffers.items()}
    if isinstance(buffers, tuple):
        return tuple(map(_fresh, buffers))
    return None if buffers is None else _Buffers(buffers)
