"""The share of a training step that is spent on data: loading and views, on the device where the step is.

    python benchmarks/step.py                   # SimVAE with the MLP and ten views; SimCLR with ResNet-18, if time

Batches are 128 images of Fashion-MNIST's shape for SimVAE and 64 of CIFAR-10's for SimCLR. The two parts of a step are
timed by themselves, in turn, in one process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from views import machine

import sslx.api  # noqa: F401  puts the registry in its place
from sslx.api import Split
from sslx.core.training.config import configure
from sslx.core.training.engine import Engine
from sslx.core.training.run import build
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime

SIMVAE: dict[str, Any] = {
    "method": {"use": "simvae"},
    "views": {"use": "simvae-grey"},
    "train": {"batch_size": 128},
}
SIMCLR: dict[str, Any] = {
    "method": {"use": "simclr", "encoder": {"use": "resnet18-small"}},
    "views": {"use": "simclr-cifar", "count": 2},
    "train": {"batch_size": 64},
}


def engine(options: dict[str, Any], shape: tuple[int, int, int], precision: str, device: str, folder: Path) -> Engine:
    runtime = Runtime.start(device, precision)
    config = configure({"dataset": {"use": "fashion-mnist"}}, options, {"train": {"precision": precision}})
    images = torch.randint(0, 256, (2048, *shape), generator=torch.Generator().manual_seed(0)).byte()
    method = build(config, shape, len(images)).to(runtime.device)
    folder.mkdir()
    return Engine(config, method, Split(images), runtime, RunFolder(folder), lambda *_, **__: None)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(made: Engine, steps: int) -> tuple[list[float], list[float]]:
    data: list[float] = []
    rest: list[float] = []
    epoch, batches = 0, iter(made.batches(0, 0))
    made.method.train()
    for _ in range(steps):
        wait(made.runtime.device)
        start = time.perf_counter()
        views = next(batches, None)
        if views is None:
            epoch += 1
            batches = iter(made.batches(epoch, 0))
            continue
        wait(made.runtime.device)
        middle = time.perf_counter()
        made.update(views, epoch)
        made.step += 1
        wait(made.runtime.device)
        data.append(middle - start)
        rest.append(time.perf_counter() - middle)
    return data[2:], rest[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(machine())
    print("\n| | data | whole step | share of data |\n|---|---:|---:|---:|")
    with TemporaryDirectory() as folder:
        for name, options, shape, steps in (
            ("SimVAE, MLP, J = 10, batch 128", SIMVAE, (1, 28, 28), arguments.steps),
            ("SimCLR, ResNet-18, J = 2, batch 64", SIMCLR, (3, 32, 32), max(6, arguments.steps // 5)),
        ):
            for precision in ("fp32", "bf16"):
                path = Path(folder) / f"{len(list(Path(folder).iterdir()))}"
                data, rest = measure(engine(options, shape, precision, arguments.device, path), steps)
                share = statistics.median(a / (a + b) for a, b in zip(data, rest, strict=True))
                mine = statistics.median(data)
                whole = statistics.median(a + b for a, b in zip(data, rest, strict=True))
                print(f"| {name}, {precision} | {mine * 1e3:.2f} ms | {whole * 1e3:.1f} ms | {share:.2%} |", flush=True)


if __name__ == "__main__":
    main()
