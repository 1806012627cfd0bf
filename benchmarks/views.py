"""Views per second beside other libraries, measured side by side in one process.

    python benchmarks/views.py                  # everything; --sizes 32 --views 10 for one table
    pip install "sslx[bench]"                   # lightly, albumentations and kornia, compared where they are there

The views are SimCLR's with exact colour: crop (0.2, 1), flip, jitter 0.4/0.4/0.4/0.1 with probability 0.8, grey 0.2,
blur 0.5; for 28 pixels of one channel crop and flip. Each candidate makes whole batches of J views of uint8 images in
memory. Candidates take turns, so that a busy machine slows all alike; medians and ratios of the rounds are printed.
Libraries that make a view at a time run in a DataLoader with as many workers as sslx has threads, kept alive, and their
first batches, in which workers start, are not counted. What they make ahead between their turns, an eighth of a turn,
counts for them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from sslx.data_loaders.views.standard import Standard

FULL: dict[str, Any] = {
    "crop": (0.2, 1.0), "hflip": 0.5, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "jitter": 0.8,
    "grey": 0.2, "blur": 0.5,
}  # fmt: skip
MORE: dict[str, Any] = {**FULL, "vflip": 0.5, "solarise": 0.2, "noise": 0.1}
CROP: dict[str, Any] = {"crop": (0.4, 1.0), "hflip": 0.5}
SAMPLES = {28: 128, 32: 256, 64: 128, 224: 32}  # images of a batch, by their size
TURN = 0.5  # seconds of a candidate's turn, or one batch


class Same(Dataset[Any]):
    """Images whose item is J views of one of them, each made by itself."""

    def __init__(self, images: Any, one: Callable[[Any], Any], views: int) -> None:
        self.images, self.one, self.views = images, one, views

    def __len__(self) -> int:
        return 1 << 40  # epochs never end

    def __getitem__(self, i: int) -> Any:
        image = self.images[i % len(self.images)]
        return torch.stack([torch.as_tensor(self.one(image)) for _ in range(self.views)])


class InOrder(torch.utils.data.Sampler[int]):
    def __init__(self) -> None:
        pass

    def __iter__(self) -> Iterator[int]:
        i = 0
        while True:
            yield i
            i += 1


def sslx(images: Tensor, views: int, options: dict[str, Any], **more: Any) -> Callable[[], Any]:
    policy, first = Standard(count=views, **options, **more), iter(range(0, 1 << 40, len(images)))  # an endless epoch
    return lambda: policy(images, torch.arange(len(images)) + next(first), seed=0, epoch=0)


def in_workers(images: Any, one: Callable[[Any], Any], views: int, workers: int) -> Callable[[], Any]:
    """A batch is as many loader batches of 16 samples as the images need: workers then never stand idle."""
    loader = DataLoader(Same(images, one, views), 16, sampler=InOrder(), num_workers=workers, prefetch_factor=1)
    batches = iter(loader)
    for _ in range(2 * workers + 2):
        next(batches)
    return lambda: [next(batches) for _ in range(len(images) // 16)]


def torchvision(options: dict[str, Any], size: int, radius: int) -> Callable[[Tensor], Tensor]:
    steps: list[Any] = [v2.RandomResizedCrop(size, options["crop"], antialias=True), v2.RandomHorizontalFlip()]
    if "hue" in options:
        steps += [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), v2.RandomGrayscale(0.2)]
        steps += [v2.RandomApply([v2.GaussianBlur(2 * radius + 1, (0.1, 2.0))], 0.5)]
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])


def albumentations(options: dict[str, Any], size: int, radius: int) -> Callable[[Any], Any]:
    import albumentations as A

    steps: list[Any] = [A.RandomResizedCrop((size, size), options["crop"]), A.HorizontalFlip(p=0.5)]
    if "hue" in options:
        steps += [A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=0.8), A.ToGray(p=0.2)]
        steps += [A.GaussianBlur(2 * radius + 1, (0.1, 2.0), p=0.5)]
    compose = A.Compose([*steps, A.Normalize(0.0, 1.0)])
    return lambda image: np.moveaxis(compose(image=image)["image"].reshape(size, size, -1), -1, 0)


def lightly(options: dict[str, Any], size: int, radius: int) -> Callable[[Any], Any]:
    from lightly.transforms.simclr_transform import SimCLRViewTransform
    from PIL import Image

    one = SimCLRViewTransform(input_size=size, cj_strength=0.5, min_scale=options["crop"][0])
    return lambda image: one(Image.fromarray(image))


def kornia(images: Tensor, views: int, options: dict[str, Any], size: int, radius: int) -> Callable[[], Any]:
    import kornia.augmentation as K

    steps: list[Any] = [K.RandomResizedCrop((size, size), options["crop"]), K.RandomHorizontalFlip()]
    if "hue" in options:
        steps += [K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), K.RandomGrayscale(p=0.2)]
        steps += [K.RandomGaussianBlur((2 * radius + 1,) * 2, (0.1, 2.0), p=0.5)]
    both = torch.nn.Sequential(*steps)
    return lambda: both((images.float() / 255).repeat_interleave(views, dim=0))


def candidates(size: int, views: int, samples: int, workers: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    channels, options = (1, CROP) if size == 28 else (3, FULL)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, channels, size, size), generator=generator).byte()
    flat = np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1))
    radius = Standard().law(size, size).radius
    yield "sslx, numba", sslx(images, views, options)
    if channels == 3:
        yield "sslx, numba, with solarising, vertical flips and normal noise", sslx(images, views, MORE)
        yield "sslx, numba, with rotation", sslx(images, views, {**FULL, "rotation": 15.0})
    yield "sslx, torch", sslx(images, views, options, backend="torch")
    yield "sslx, torch compiled", sslx(images, views, options, backend="compiled")
    one, name = torchvision(options, size, radius), f"DataLoader, {workers} workers"
    yield "torchvision v2, one process", lambda: [one(image) for image in images for _ in range(views)]
    yield f"torchvision v2, {name}", in_workers(images, one, views, workers)
    for library, make in (
        (f"albumentations, {name}", lambda: in_workers(flat, albumentations(options, size, radius), views, workers)),
        (f"lightly, {name}", lambda: in_workers(flat, lightly(options, size, radius), views, workers)),
        ("kornia", lambda: kornia(images, views, options, size, radius)),
    ):
        if "lightly" in library and channels == 1:
            continue  # it has no views of one channel
        try:
            yield library, make()
        except ImportError as error:
            print(f"({library} left out: {error})")


def machine() -> str:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{model}, {os.cpu_count()} logical processors, {torch.get_num_threads()} threads, load {load}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def measure(size: int, views: int, samples: int, rounds: int) -> None:
    workers = torch.get_num_threads()
    found = dict(candidates(size, views, samples, workers))
    times: dict[str, list[float]] = {name: [] for name in found}  # of a batch
    for each in found.values():
        each()  # compiles, fills caches
    batches = {name: max(1, round(TURN / seconds(each, 1))) for name, each in found.items()}
    for _ in range(rounds):
        for name, each in found.items():
            times[name].append(seconds(each, batches[name]))
            time.sleep(0.3 * min(TURN, times[name][-1]))  # until workers have made what they make ahead
    ours = times["sslx, numba"]
    print(f"\n{size} px, J = {views}, {samples} images, {rounds} rounds\n")
    print("| | views/s (median) | best | sslx is faster by |\n|---|---:|---:|---:|")
    for name, spent in times.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(spent, ours, strict=True))
        rate, best = samples * views / statistics.median(spent), samples * views / min(spent)
        print(f"| {name} | {rate:,.0f} | {best:,.0f} | {ratio:.1f} |", flush=True)


def seconds(make: Callable[[], Any], batches: int) -> float:
    """Time of a batch, the mean of so many."""
    start = time.perf_counter()
    for _ in range(batches):
        make()
    return (time.perf_counter() - start) / batches


FIRST = """
import time, torch
from sslx.data_loaders.views.standard import Standard
policy, images = Standard(count=10, {options}), torch.zeros(256, 3, 32, 32, dtype=torch.uint8)
start = time.perf_counter()
policy(images, torch.arange(256), seed=0, epoch=0)
print(time.perf_counter() - start)
"""


def first_batch(rounds: int) -> None:
    """Seconds from asking for the first batch of a process, which imports numba and reads the kernel's cache."""
    code = FIRST.format(options=", ".join(f"{name}={value!r}" for name, value in FULL.items()))
    command = [sys.executable, "-c", code]
    taken = [float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(rounds)]
    print(f"\nFirst batch of a process: {statistics.median(taken):.2f} s (median of {rounds})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SAMPLES), choices=list(SAMPLES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--views", type=int, nargs="+", default=[2, 10])
    arguments = parser.parse_args()
    print(machine())
    first_batch(arguments.rounds)
    for size in arguments.sizes:
        for views in arguments.views:
            measure(size, views, SAMPLES[size], arguments.rounds)


if __name__ == "__main__":
    main()
