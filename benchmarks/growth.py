"""How the time of an epoch grows with the number of images, of views and of processes.

python benchmarks/growth.py    half an hour on two cores; it writes benchmarks/results/growth.md

Each figure is of a run of its own, `sslx run`, on random images of 32 x 32 pixels in colour, with SimCLR and a small
MLP, so that the images are most of the work. The runs take turns in rounds, and a figure is the median of the rounds.
Time is that of the processors, of all processes together, and next to it that of the clock. Lines t = a + b n
for the number of images are fitted to the least relative error, and the power is the slope of log t over log n in the
larger half.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sslx.api import Dataset, Split, option

RESULTS = Path(__file__).parent / "results"
VIEWS = (2, 4, 8, 16)
HERE = f"{Path(__file__).resolve()}:Noise"


class Noise(Dataset):
    """Random images of ten classes that mean nothing."""

    n: int = option(default=1000, help="Number of training images.")
    tests: int = option(default=10, help="Number of test images.")
    channels: int = option(default=3, help="Number of channels.")
    side: int = option(default=32, help="Height and width in pixels.")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        generator, n = torch.Generator().manual_seed(0), self.n
        shape = (n + self.tests, self.channels, self.side, self.side)
        images, labels = torch.randint(256, shape, dtype=torch.uint8, generator=generator), torch.arange(shape[0]) % 10
        return Split(images[:n], labels[:n]), Split(images[n:], labels[n:])


class Case(NamedTuple):
    """A run that is timed."""

    images: int
    loader: str = "memory"
    views: int = 2
    processes: int = 1
    network: str = "mlp"

    def run(self, folder: Path) -> tuple[float, float]:
        """Seconds of the processors and of the clock that an epoch takes."""
        out = Path(tempfile.mkdtemp(dir=folder)) / "run"
        words = ["run", "-p", "simclr", "-d", HERE, "--set", f"dataset.n={self.images}", "--views", str(self.views)]
        words += ["--set", f"encoder={self.network}", "--evaluators", "similarity", "--batch-size", "256"]
        words += ["--set", "encoder.hidden=64"] if self.network == "mlp" else []
        words += ["--loader", self.loader, "--devices", str(self.processes), "--epochs", "1", "--device", "cpu"]
        words += ["--set", f"loader.cache={folder}"] if self.loader == "ffcv" else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SSLX_REPORT": "no"}
        command = [sys.executable, "-m", "sslx", *words, "--out", str(out)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        facts = json.loads((out / "training.json").read_text())
        return float(facts["cpu_seconds"]), float(facts["seconds"])


class Line(NamedTuple):
    """How times grow with n."""

    fixed: float  # seconds
    each: float  # seconds for one more
    exponent: float
    worst: float  # the largest relative error of a + b n


def fitted(n: Sequence[float], seconds: Sequence[float]) -> Line:
    x, t = np.asarray(n, float), np.asarray(seconds)
    design = np.stack([np.ones_like(x), x], axis=1) / t[:, None]
    fixed, each = np.linalg.lstsq(design, np.ones_like(t), rcond=None)[0]
    half = len(x) // 2  # small ones are dominated by what is fixed
    exponent = np.polyfit(np.log(x[half:]), np.log(t[half:]), 1)[0]
    return Line(float(fixed), float(each), float(exponent), float(np.abs((fixed + each * x) / t - 1).max()))


def measured(cases: Sequence[Case], rounds: int) -> Mapping[Case, tuple[float, float]]:
    """Medians of the processors' and the clock's seconds of each case."""
    found: dict[Case, list[tuple[float, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for case in cases:
                found[case].append(case.run(Path(folder)))
                print(f"{case}: {found[case][-1][0]:.2f} CPU-s", file=sys.stderr, flush=True)
    return {case: tuple(map(statistics.median, zip(*times, strict=True))) for case, times in found.items()}


def table(title: str, rows: Sequence[tuple[str, tuple[float, float]]]) -> list[str]:
    lines = [f"| {title} | processors, s | clock, s |", "|---|---:|---:|"]
    return [*lines, *(f"| {name} | {cpu:.2f} | {clock:.2f} |" for name, (cpu, clock) in rows), ""]


def page(sizes: Sequence[int], times: Mapping[Case, tuple[float, float]], rounds: int) -> str:
    how = f"medians of {rounds} rounds" if rounds > 1 else "one run of each"
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} logical processors"
    lines = [
        "# Growth\n",
        f"`python benchmarks/growth.py`: an epoch of SimCLR, by default with a small MLP, on random images of "
        f"32 x 32 pixels, {how}.\n",
        f"{machine}, one thread in each process, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}\n",
    ]
    for loader in ("memory", "ffcv"):
        rows = [(f"{n:,} images, {loader}", times[Case(n, loader)]) for n in sizes]
        line = fitted(sizes, [cpu for _, (cpu, _) in rows])
        lines += table("two views", rows)
        lines.append(
            f"The loader {loader} takes {line.fixed:.2f} s + {1e6 * line.each:.1f} µs for each image, within "
            f"{line.worst:.0%}, and time grows with the power {line.exponent:.2f} of the number.\n"
        )
    n = sizes[1]
    rows = [(f"{views} views", times[Case(n, views=views)]) for views in VIEWS]
    factors = [f"{after[0] / before[0]:.1f}" for (_, before), (_, after) in pairwise(rows)]
    lines += table(f"{n:,} images", rows)
    lines.append(
        f"Twice as many views take {', '.join(factors)} times as long: the loss compares all views of a batch with "
        "each other, which is little work for two views and most of it for 16.\n"
    )
    for network, n in (("mlp", sizes[2]), ("resnet18-small", sizes[1])):
        one, two = (times[Case(n, processes=p, network=network)] for p in (1, 2))
        lines += table(f"{n:,} images, {network}", [("one process", one), ("two processes", two)])
        cpu, clock = two[0] / one[0], two[1] / one[1]
        lines.append(f"Two processes take {cpu:.2f} times the processor time of one, and {clock:.2f} times as long.\n")
    lines.append("With the MLP, they mostly exchange gradients and embeddings; a larger network has more to divide.\n")
    return "\n".join([*lines, *arithmetic()])


class Setting(NamedTuple):
    """A training that nobody has carried out here, for `arithmetic`."""

    name: str
    images: int
    cards: int
    on_a_machine: int = 8
    rate: float = 2600.0  # images per second of a card, an assumption
    batch: int = 128  # images of a card in a step
    weights: float = 22e6  # of a ViT-S/16
    width: int = 384
    raw: float = 3 * 224 * 224.0  # bytes of an image
    jpeg: float = 25e3  # an assumption

    def demands(self) -> Sequence[tuple[str, str]]:
        per_second = self.rate * self.on_a_machine
        return [
            ("an epoch takes", f"{self.images / self.rate / self.cards / 60:,.1f} min"),
            ("images of a machine per second", f"{per_second:,.0f}"),
            ("read by a machine, raw", f"{per_second * self.raw / 1e9:,.1f} GB/s"),
            ("read by a machine, JPEG", f"{per_second * self.jpeg / 1e9:,.1f} GB/s"),
            ("file, raw", f"{self.images * self.raw / 1e12:,.1f} TB"),
            (
                "gradients that a card sends and receives",
                f"{2 * 4 * self.weights * self.rate / self.batch / 1e9:,.1f} GB/s",
            ),
            ("order of an epoch in each process, 8 bytes an image", f"{8 * self.images / 1e9:,.2f} GB"),
            ("features of a process for knn", f"{4 * self.width * self.images / self.cards / 1e9:,.2f} GB"),
        ]


def arithmetic() -> list[str]:
    """What large trainings demand of a machine. Nothing of it was measured."""
    settings = [Setting("ImageNet-1k, 8 cards", 1_281_167, 8), Setting("10⁹ images, 256 cards", 10**9, 256)]
    of = settings[0]
    columns = [each.demands() for each in settings]
    return [
        "## Arithmetic, not measurements\n",
        f"Two views of 224 pixels and a ViT-S/16, with {of.rate:,.0f} images per second and card, {of.batch} images of "
        f"a card in a step, {of.on_a_machine} cards in a machine and JPEG files of {of.jpeg / 1e3:.0f} kB assumed:\n",
        "| | " + " | ".join(each.name for each in settings) + " |",
        "|---|" + "---:|" * len(settings),
        *(f"| {row[0][0]} | " + " | ".join(value for _, value in row) + " |" for row in zip(*columns, strict=True)),
        "\nFiles are read in random order. Of 10⁹ images, each process also holds the labels, 8 bytes each.\n",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "growth.md")
    options = parser.parse_args()
    sizes = options.sizes
    cases = [Case(n, loader) for n in sizes for loader in ("memory", "ffcv")]
    cases += [Case(sizes[1], views=views) for views in VIEWS[1:]] + [Case(sizes[2], processes=2)]
    cases += [Case(sizes[1], processes=n, network="resnet18-small") for n in (1, 2)]
    text = page(sizes, measured(cases, options.rounds), options.rounds)
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
