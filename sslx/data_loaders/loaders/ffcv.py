"""FFCV (Leclerc et al. 2023): images from a memory-mapped file, decoded once each by threads that work ahead.

What FFCV 1.0.2 would do by itself, and this does not let happen: it takes threads from torch and numba, hands out
buffers that it overwrites five batches later, leaves a thread and its buffers behind when an epoch is not finished, and
looks up where each image ends, which takes a fifth of the time.
"""

from __future__ import annotations

import hashlib
import queue
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from sslx.api import ConfigError, DataError, Lazy, Loader, Split, option
from sslx.data_loaders import beton
from sslx.data_loaders.buffers import Pool
from sslx.data_loaders.datasets.downloads import cache_folder

_pool = Pool(8)  # batches: FFCV has four on their way
_computing = threading.Lock()  # numba's simplest threads end the process if two of ours start them at the same time


class FFCV(Loader):
    """Reads what the memory loader holds from a `.beton` file instead, in the same order.

    A training set is converted once, into a cache, a few images at a time; its name there is a hash of what it holds.
    The dataset `beton` is read from its own file. With `storage=raw` the images are the same to the bit, and so is a
    run.
    """

    storage: Literal["raw", "jpeg"] = option(default="raw", help="jpeg: about half the size, not quite the same images")
    quality: int = option(default=95, ge=1, le=100, help="of JPEG")
    cache: Path | None = option(default=None, help="where converted sets are; none: sslx/beton in your cache folder")
    threads: int | None = option(default=None, gt=0, help="threads that decode; none: as many as torch has")

    def open(self, split: Split, device: torch.device) -> None:
        beton.require()
        import numba  # comes with FFCV

        images = split.images
        if images.dtype != torch.uint8:
            raise ConfigError("loader: ffcv stores images of uint8, and this dataset has floats; use the memory loader")
        if isinstance(images, Lazy) and isinstance(images.source, beton.Beton):
            file, positions = images.source, images.index
        else:
            file, positions = beton.Beton(self._converted(images)), torch.arange(len(images))
            if (len(file.columns["half"]), *file.image_shape) != tuple(images.shape):
                raise DataError(f"{file.path} has other images than the training set; delete it")
        self._positions = positions.numpy().astype(np.uint64)
        self._device, self._channels, self._raw = device, file.image_shape[0], file.raw
        self._epoch: _Epoch | None = None
        limits: Any = numba.config
        threads = min(self.threads or torch.get_num_threads(), limits.NUMBA_NUM_THREADS)
        with beton.threads_kept():
            from ffcv.loader import Loader as Reader

            pipelines: dict[str, Any] = dict.fromkeys(file.columns)  # read already, not again for each batch
            if file.raw:
                pipelines["image"] = _raw()
            # Through the system's cache, which gives pages back when others need memory. FFCV's own would hold, for an
            # order that is random all over the file, every page from the first batch that needs it to the last.
            self._reader: Any = Reader(
                str(file.path), batch_size=1, num_workers=threads, drop_last=False, pipelines=pipelines, os_cache=True
            )

    def _converted(self, images: Tensor | Lazy) -> Path:
        """The set's file in the cache, written now if need be. Processes that want the same one wait for the first."""
        digest = hashlib.blake2b(repr(tuple(images.shape)).encode(), digest_size=16)
        if isinstance(images, Lazy):
            digest.update(images.source.identity.encode())
        digest.update(np.ascontiguousarray((images.index if isinstance(images, Lazy) else images).numpy()).data)
        kind = "raw" if self.storage == "raw" else f"jpeg{self.quality}"
        folder = (self.cache or cache_folder() / "beton").expanduser()
        path = folder / f"{digest.hexdigest()}-{kind}.beton"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    beton.write([Split(images)], path, self.storage, self.quality)
                    size = path.stat().st_size / 1e6
                    print(f"loader ffcv: converted {len(images)} images to {path}, {size:,.0f} MB", file=sys.stderr)
        except OSError as error:
            raise DataError(
                f"{folder} cannot be used ({error.strerror}); set loader.cache to another folder"
            ) from error
        return path

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        if not indices:
            return
        if self._epoch is not None:
            self._epoch.close()  # left by whoever still holds an older iterator
        # By numpy, which takes this thread alone: torch's threads would take FFCV's processors, and wait for more.
        self._epoch = epoch = _Epoch(self._reader, [self._positions[index.numpy()] for index in indices])
        try:
            for images in epoch:
                yield (images if self._raw else self._planes(images)).to(self._device)
        finally:
            epoch.close()

    def _planes(self, images: Tensor) -> Tensor:
        """FFCV's (n, H, W, 3), as it decodes JPEG, as (n, C, H, W)."""
        return torch.from_numpy(np.ascontiguousarray(images.numpy().transpose(0, 3, 1, 2)[:, : self._channels]))


def _raw() -> list[Any]:
    """FFCV's pipeline for raw images, without its search for the length of each: all are equally long."""
    from ffcv.fields.ndarray import NDArrayDecoder
    from ffcv.libffcv import memcpy
    from ffcv.pipeline.compiler import Compiler
    from ffcv.transforms import ToTensor

    class Decoder(NDArrayDecoder):  # type: ignore[misc]
        def generate_code(self) -> Callable[..., Any]:
            each, copy, length = Compiler.get_iterator(), Compiler.compile(memcpy), np.uint64(self.field.element_size)

            def decode(indices: Any, images: Any, starts: Any, storage: Any) -> Any:
                for i in each(indices.shape[0]):
                    start = starts[indices[i]]
                    copy(storage[0][start : start + length], images[i].view(np.uint8))
                return images

            return decode

    return [Decoder(), ToTensor()]


class _Epoch:
    """One pass of FFCV over batches of positions. It works ahead in a thread, which `close` ends."""

    def __init__(self, reader: Any, batches: Sequence[NDArray[np.uint64]]) -> None:
        from ffcv.loader.epoch_iterator import EpochIterator

        class Fresh(EpochIterator):  # type: ignore[misc]
            """FFCV's own, but batches may differ in size, and no buffer that someone holds is used again."""

            memory_allocations: Any

            def start(self) -> None:
                self.iter_ixes = iter(batches)
                self.memory_allocations = defaultdict(dict, _fresh(self.memory_allocations))
                super().start()

            def run_pipeline(self, *arguments: Any) -> Any:
                with _computing:
                    return super().run_pipeline(*arguments)

        largest = max(batches, key=len)
        reader.batch_size = len(largest)  # read by the iterator alone
        with beton.threads_kept():
            self._iterator: Any = Fresh(reader, largest)
        self._count = len(batches)

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
    """Stands for FFCV's array of buffers, (slots, n, ...), and gives one that is free whenever a slot is asked for."""

    def __init__(self, buffers: np.ndarray) -> None:
        self._shape, self._dtype = buffers.shape[1:], buffers.dtype

    def __getitem__(self, slot: int) -> np.ndarray:
        return _pool.empty(self._shape, self._dtype)


def _fresh(buffers: Any) -> Any:
    """FFCV's buffers, by node and in tuples where a node has several, each replaced."""
    if isinstance(buffers, dict):
        return {node: _fresh(part) for node, part in buffers.items()}
    if isinstance(buffers, tuple):
        return tuple(map(_fresh, buffers))
    return None if buffers is None else _Buffers(buffers)
