"""Images per second of loading alone: no views, no training, uint8 batches in a random order.

python benchmarks/loading.py FOLDER    where FOLDER is a dataset for `folder:PATH`, such as CIFAR-10 as JPEG files

All candidates take turns in one process, so that whatever else the machine does hits them alike; a figure is the median
of the rounds. The ratio is the median of the rounds' ratios to the memory loader.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import pil_to_tensor

from sslx.api import Split
from sslx.data_loaders.datasets.folder import Folder
from sslx.data_loaders.loaders.ffcv import FFCV
from sslx.data_loaders.loaders.memory import Memory

FILES = 10_000  # images of a round of the DataLoader, which is slow

Pass = Callable[[], Iterable[Any]]


def sslx_pass(loader: Memory | FFCV, split: Split, batch: int) -> Pass:
    loader.open(split, torch.device("cpu"))

    def one() -> Iterator[Any]:
        return iter(loader.batches(torch.randperm(len(split)).split(batch)))

    return one


@contextmanager
def threads_kept() -> Iterator[None]:
    """Restore the numbers of threads of torch and numba, which FFCV sets."""
    before = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def plain_ffcv(path: Path, batch: int) -> Pass:
    """FFCV as its documentation uses it."""
    with threads_kept():
        from ffcv.loader import Loader, OrderOption

        reader = Loader(
            str(path), batch_size=batch, num_workers=torch.get_num_threads(), order=OrderOption.RANDOM, drop_last=False
        )

    def one() -> Iterator[Any]:
        with threads_kept():
            yield from reader

    return one


def files(root: Path, batch: int) -> Pass:
    """torchvision's ImageFolder, decoded by Pillow, in a DataLoader with a worker for each processor."""
    source = ImageFolder(root, transform=pil_to_tensor)
    some = Subset(source, np.random.default_rng(0).permutation(len(source))[:FILES].tolist())
    loader = DataLoader(some, batch_size=batch, shuffle=True, num_workers=os.cpu_count() or 1, persistent_workers=True)
    return lambda: loader


def seconds(one: Pass) -> float:
    """Time per image of as many passes as take half a second."""
    start, images = time.perf_counter(), 0
    while time.perf_counter() < start + 0.5:
        for batch in one():
            images += len(batch[0]) if isinstance(batch, list | tuple) else len(batch)
    return (time.perf_counter() - start) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--name", default="", help="of the images, for the table")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "loading.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        split, _ = Folder(path=options.folder).load(Path(scratch), offline=True)
        raw, jpeg = (FFCV(cache=Path(scratch), storage=storage) for storage in ("raw", "jpeg"))
        candidates: dict[str, Pass] = {
            "memory": sslx_pass(Memory(), split, options.batch),
            "ffcv, raw": sslx_pass(raw, split, options.batch),
            "ffcv, JPEG": sslx_pass(jpeg, split, options.batch),
        }
        (raw_file,) = Path(scratch).glob("*-raw.beton")
        sizes = {path.stem.split("-")[1]: path.stat().st_size for path in Path(scratch).glob("*.beton")}
        candidates["plain FFCV, raw"] = plain_ffcv(raw_file, options.batch)
        candidates["DataLoader over files"] = files(options.folder / "train", options.batch)
        for one in candidates.values():
            seconds(one)  # warm: compiled, read from the disk, workers started
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(options.rounds):
            for name, one in candidates.items():
                times[name].append(seconds(one))
    rows = {
        name: {
            "images_per_second": round(1 / statistics.median(values)),
            "best_images_per_second": round(1 / min(values)),
            "ratio_to_memory": statistics.median(m / v for m, v in zip(times["memory"], values, strict=True)),
        }
        for name, values in times.items()
    }
    plain = [p / o for p, o in zip(times["plain FFCV, raw"], times["ffcv, raw"], strict=True)]
    results = {
        "images": options.name or options.folder.name,
        "count": len(split),
        "shape": list(split.images.shape[1:]),
        "batch": options.batch,
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "file_bytes": sizes,
        "ffcv_raw_over_plain_ffcv": statistics.median(plain),
        "loaders": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print("| loader | images/s, median | best | ratio to memory |\n| --- | --- | --- | --- |")
    for name, row in rows.items():
        median, best = row["images_per_second"], row["best_images_per_second"]
        print(f"| {name} | {median:,} | {best:,} | {row['ratio_to_memory']:.2f} |")
    print(f"\nsslx's ffcv, raw, over plain FFCV: {statistics.median(plain):.2f}; load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
