"""Evaluation beside other implementations, and at the size of ImageNet.

    python benchmarks/evaluation.py agreement                  # minutes: scikit-learn is slow here
    python benchmarks/evaluation.py agreement --images 5000 --beyond  # and scikit-learn far beyond its tolerance
    python benchmarks/evaluation.py path --device cuda         # 1.28 M x 768 features, 1000 classes, ten values of C
    python benchmarks/evaluation.py path --part 0.01           # the same at a hundredth of the size
    python benchmarks/evaluation.py processes                  # 1 000 000 images by one process and by two

`agreement` minimizes the same objective on the same standardized features with scikit-learn, side by side. The features
are those of a random convolutional network on Fashion-MNIST, whose covariance is as ill-conditioned as that of trained
networks. Objectives are computed in float64 from the coefficients of each. `path` runs the evaluator on clusters.
`processes` is `sslx eval` with `knn` on random images of 16 x 16 pixels. The floors are most of the work.
Each replaces its own section of benchmarks/results/evaluation.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from growth import HERE
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from views import machine

from sslx.api import Evaluation, Features
from sslx.data_loaders.datasets.mnist import FashionMNIST
from sslx.evaluators import logistic
from sslx.evaluators.linear import Linear, _scaled

RESULTS = Path(__file__).parent / "results" / "evaluation.md"
Labelled = tuple[Tensor, Tensor]


def convolved(images: Tensor, dimensions: int) -> Tensor:
    """Features (n, D) of a random network with two convolutions, for (n, 1, 28, 28) uint8 images."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(32, 1, 5, 5, generator=generator) / 5
    second = torch.randn(dimensions, 32, 3, 3, generator=generator) / 288**0.5
    found = []
    for part in images.split(500):
        h = F.conv2d(part.float() / 255, first, stride=2, padding=2).relu()
        found.append(F.conv2d(h, second, stride=2, padding=1).relu().mean(dim=(2, 3)))
    return torch.cat(found)


def fashion(images: int, dimensions: int) -> tuple[Labelled, Labelled]:
    """Standardized features and labels of Fashion-MNIST's training and test set."""
    train, test = FashionMNIST().load(Path(os.environ["SSLX_DATA"]), offline=True)
    first = torch.arange(min(images, len(train)))
    z, q = (convolved(split.images[torch.arange(len(split))], dimensions) for split in (train.take(first), test))
    z, q = _scaled(z, q, standardize=True)
    assert train.labels is not None and test.labels is not None
    return (z, train.labels[:images]), (q, test.labels)


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, the seconds that passed and the seconds of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def agreement(images: int, dimensions: int, strengths: list[float], device: torch.device, beyond: bool) -> str:
    (z, y), (q, truths) = fashion(images, dimensions)
    on = z.to(device), y.to(device)
    lines = [
        f"{images} x {dimensions} standardized features, ten classes. `above` is the objective's distance from the",
        "lowest one in the group, as a part of it; `processor` is the time of all cores.\n",
        "| C | | objective | above | test accuracy | iterations | s | processor s |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for c in strengths:
        rows: list[tuple[str, float, float, int, float, float]] = []

        def ours(tolerance: float, c: float = c, rows: Any = rows) -> None:
            fit, wall, cpu = timed(lambda: logistic.fit(*on, 10, c, tolerance=tolerance))
            right = logistic.predict(fit.weights, q.to(device), 10).cpu() == truths
            value = logistic.objective(z, y, 10, fit.weights.cpu(), c)
            name = f"sslx, tolerance {tolerance:g}"
            rows.append((name, value, right.double().mean().item(), fit.iterations, wall, cpu))
            print(f"C={c:g}:", *rows[-1], flush=True)

        def theirs(name: str, x: Tensor, c: float = c, rows: Any = rows, **options: Any) -> None:
            model = LogisticRegression(C=c, **options)
            _, wall, cpu = timed(lambda: model.fit(x.numpy(), y.numpy()))
            weights = torch.cat([torch.from_numpy(w) for w in (model.coef_, model.intercept_[:, None])], 1).double()
            accuracy = float(model.score(q.numpy(), truths.numpy()))
            value = logistic.objective(z, y, 10, weights, c)
            rows.append((name, value, accuracy, int(model.n_iter_.max()), wall, cpu))
            print(f"C={c:g}:", *rows[-1], flush=True)

        ours(1e-6)
        ours(1e-8)
        theirs("scikit-learn, its tolerance", z, max_iter=10_000)
        if beyond:
            theirs("scikit-learn, tolerance 1e-8", z.double(), max_iter=100_000, tol=1e-8)
        least = min(value for _, value, *_ in rows)
        for name, value, accuracy, iterations, wall, cpu in rows:
            lines.append(
                f"| {c:g} | {name} | {value:.6f} | {value / least - 1:.1e} | {accuracy:.4f} | {iterations} "
                f"| {wall:.1f} | {cpu:.1f} |"
            )
    return "\n".join(lines)


def clusters(n: int, dimensions: int, classes: int, seed: int) -> Features:
    """Overlapping clusters with correlated dimensions; the same clusters for any seed."""
    generator = torch.Generator().manual_seed(99)
    means = torch.randn(classes, dimensions, generator=generator)
    mix = torch.randn(dimensions, dimensions, generator=generator) * torch.logspace(0, -2, dimensions)
    generator.manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    noise = (8 * torch.randn(len(part), dimensions, generator=generator) for part in labels.split(10_000))
    z = torch.cat([(means[part] + e) @ mix for part, e in zip(labels.split(10_000), noise, strict=True)])
    return Features(z, labels, {})


def path(part: float, images: int, queries: int, dimensions: int, classes: int, device: torch.device) -> str:
    n, m = round(part * images), round(part * queries)
    nothing: Any = None
    train, test = clusters(n, dimensions, classes, 1), clusters(m, dimensions, classes, 2)
    evaluation = Evaluation(
        train, test, method=nothing, data=nothing, views=nothing, device=device, seed=0, load=nothing
    )
    result, wall, cpu = timed(lambda: Linear().evaluate(evaluation))
    facts = result.protocol
    iterations = [each["iterations"] for each in facts["candidates"]]
    return (
        f"{n} x {dimensions} features of {classes} classes, {m} queries: the search over C (it ended after "
        f"{len(iterations)} values),\nand the final fit with C={facts['c']:g} in {wall:.1f} s ({cpu:.1f} processor "
        f"s). Iterations {iterations}\nand {facts['iterations']}, test accuracy {result.scores['linear']:.4f}"
    )


SMALL = ["--set", "encoder.hidden=64", "--epochs", "1", "-e", "knn"]
#: Runs a command and prints the memory, in KiB, of the process below it that needed most.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def processes(images: int) -> str:
    rows, scores = [], []
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:

            def sslx(*words: str, before: tuple[str, ...] = ()) -> str:
                cache = f"{folder}/cache"  # without floors
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": cache}
                command = [*before, sys.executable, "-m", "sslx", *words]
                done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
                return done.stdout

            data = ["-d", HERE, "--device", "cpu"]
            for of in ("channels=1", "side=16", "tests=2000"):
                data += ["--set", f"dataset.{of}"]
            sslx("run", "-p", "simclr", *data, *SMALL, "--out", "run")
            more = ["--set", f"dataset.n={images}", "--devices", str(count), "--trust-code"]
            begun = time.perf_counter()
            memory = int(sslx("eval", "run", *data, *more, before=(sys.executable, "-c", PEAK))) / 2**20
            rows.append(f"| {count} | {time.perf_counter() - begun:.0f} | {memory:.1f} |")
            scores.append(json.loads((Path(folder) / "run" / "results.json").read_text())["others"])
    same = "equal" if scores[0] == scores[1] else "not equal"
    return "\n".join(
        [
            f"{images:,} images in the bank, 2000 of the test, one thread in each process. The scores are {same}.\n",
            "| processes | s | GiB of the largest |",
            "|---:|---:|---:|",
            *rows,
        ]
    )


def write(name: str, device: torch.device, text: str) -> None:
    """Put a section into the results in the place of the one of the same name."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    section = f"## {name}\n\n{where}; {machine()}\n\n{text}\n"
    old = RESULTS.read_text() if RESULTS.exists() else "# Evaluation\n\n`python benchmarks/evaluation.py`\n"
    sections = re.split(r"(?m)^(?=## )", old)
    kept = [each.rstrip() + "\n" for each in sections if not each.startswith(f"## {name}\n")]
    RESULTS.write_text("\n".join([*kept, section]))
    print(section)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["agreement", "path", "processes"])
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument(
        "--images", type=int, help="training images; default 50 000; 1 281 167 for path, 1 000 000 for processes"
    )
    parser.add_argument("--dimensions", type=int, help="default 512, or 768 for path")
    parser.add_argument("--c", type=float, nargs="+", default=[0.01, 1.0, 100.0])
    parser.add_argument("--beyond", action="store_true", help="run scikit-learn to a tolerance of 1e-8 as well")
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--part", type=float, default=1.0, help="part of the images and queries of path")
    a = parser.parse_args()
    if a.case == "agreement":
        images = a.images or 50_000
        text = agreement(images, a.dimensions or 512, a.c, a.device, a.beyond)
        write(f"Logistic regression beside scikit-learn, {images} images", a.device, text)
    elif a.case == "processes":
        write("Evaluation by several processes", a.device, processes(a.images or 1_000_000))
    else:
        text = path(a.part, a.images or 1_281_167, a.queries, a.dimensions or 768, a.classes, a.device)
        write(f"Path of C on {a.device.type}, {a.part:g} of ImageNet's size", a.device, text)


if __name__ == "__main__":
    main()
