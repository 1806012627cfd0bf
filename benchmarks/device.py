"""What one card does: views and steps beside other ways to make them, and beside what the card itself allows.

    python benchmarks/device.py             # on a CUDA device, at most 6 minutes; writes benchmarks/results/device.md
    python benchmarks/device.py --small     # seconds, on any device: shows that everything works, measures nothing

First it checks that Triton's views are those of the torch backend and that a step never waits for the host. Then all
candidates of a table take turns; medians of the rounds are written. Images are synthetic and in memory. A whole step of
sslx makes its views and calls `Engine.update`; the plain loop has the same module, channels last, compiled, with a
fused optimizer, on views that are there already.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from views import FULL, MORE, kornia, machine, torchvision

import sslx.api  # noqa: F401  puts the registry in its place
from sslx.api import Split, Use, Views, key
from sslx.core.training.config import configure
from sslx.core.training.engine import Engine
from sslx.core.training.precision import arrange, autocast
from sslx.core.training.run import build
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.data_loaders.views import torch_backend
from sslx.data_loaders.views.standard import Standard

RESULT = Path(__file__).parent / "results" / "device.md"
SECONDS = 330  # after which no further table is begun
ALL: dict[str, Any] = {**MORE, "rotation": 15.0}
#: Size, images of a batch and J of each table of views, at full and at small scale.
VIEWS = {False: ((224, 256, 2), (32, 1024, 2), (32, 1024, 10)), True: ((16, 4, 2),)}
Step = tuple[str, dict[str, Any], tuple[int, int, int], int]


def steps(small: bool) -> list[Step]:
    """Name, options of the run, shape of the images, batch size."""
    half = {"precision": "bf16", "compile": not small}
    simvae = {"method": {"use": "simvae"}, "views": {"use": "simvae-grey"}, "train": {"compile": not small}}
    simclr: dict[str, Any] = {"use": "simclr", "encoder": {"use": "resnet18", "dim": 0}}
    transformer = {"use": "simclr", "encoder": {"use": "timm", "model": "vit_small_patch16_224", "dim": 0}}
    if small:
        simvae["method"] = {"use": "simvae", "encoder": {"hidden": [16]}, "decoder": {"hidden": [16]}}
        simclr["encoder"] = {"use": "cnn", "dim": 8}
        return [("SimCLR, CNN", {"method": simclr, "train": half}, (3, 16, 16), 8), ("SimVAE", simvae, (1, 8, 8), 4)]
    return [
        ("SimVAE, MLP, 12 x 10 views", simvae, (1, 28, 28), 12),
        ("SimVAE, MLP, 128 x 10 views", simvae, (1, 28, 28), 128),
        (
            "SimCLR, ResNet-18, 32 px",
            {"method": simclr, "views": {"use": "simclr-cifar"}, "train": half},
            (3, 32, 32),
            512,
        ),
        (
            "SimCLR, ViT-S/16, 224 px",
            {"method": transformer, "views": {"use": "simclr"}, "train": half},
            (3, 224, 224),
            128,
        ),
    ]


# --- measuring --------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, device: torch.device, small: bool) -> None:
        self.device, self.small, self.lines, self.begun = device, small, list[str](), time.monotonic()
        self.cuda = device.type == "cuda"

    def write(self, *lines: str) -> None:
        self.lines += lines
        print(*lines, sep="\n", flush=True)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, act: Callable[[], Any], times: int) -> float:
        self.wait()
        start = time.perf_counter()
        for _ in range(times):
            act()
        self.wait()
        return (time.perf_counter() - start) / times

    def turns(self, candidates: dict[str, Callable[[], Any]]) -> dict[str, tuple[float, float]]:
        """Median seconds of each candidate, in turns of a quarter of a second, and its peak of memory in GB."""
        peaks, times = dict[str, float](), dict[str, int]()
        for name, act in candidates.items():
            self.seconds(act, 1 if self.small else 3)  # compiles
            if self.cuda:
                torch.cuda.reset_peak_memory_stats()
            times[name] = 1 if self.small else max(1, round(0.25 / self.seconds(act, 1)))
            peaks[name] = torch.cuda.max_memory_allocated() / 1e9 if self.cuda else 0.0
        found: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(1 if self.small else 7):
            for name, act in candidates.items():
                found[name].append(self.seconds(act, times[name]))
        return {name: (statistics.median(spent), peaks[name]) for name, spent in found.items()}

    def late(self, what: str) -> bool:
        if time.monotonic() - self.begun < SECONDS:
            return False
        self.write(f"\n({what}: left out, as the time is over)")
        return True


def rates(bench: Bench) -> float:
    """The card's own rates. Returns that of a copy, in bytes read and written per second."""
    n = 1 << (16 if bench.small else 28)
    a, b = (torch.empty(n, device=bench.device) for _ in range(2))
    m = 64 if bench.small else 8192
    wide = torch.randn(m, m, device=bench.device)
    half = wide.bfloat16()

    def tf32() -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        wide @ wide
        torch.set_float32_matmul_precision(before)

    acts: dict[str, Callable[[], Any]] = {
        "copy": lambda: b.copy_(a), "bf16": lambda: half @ half, "tf32": tf32, "fp32": lambda: wide @ wide,
    }  # fmt: skip
    found = {name: spent for name, (spent, _) in bench.turns(acts).items()}
    copy = 8 * n / found.pop("copy")
    products = ", ".join(f"{name} {2 * m**3 / spent / 1e12:,.1f}" for name, spent in found.items())
    bench.write("", f"Copy {copy / 1e12:.2f} TB/s (read and written); matrix products in TFLOP/s: {products}.")
    return copy


# --- views ------------------------------------------------------------------------------------------------------------


def equal(bench: Bench) -> None:
    """The views of Triton beside those of the torch backend on this device and on the CPU."""
    if not bench.cuda:
        bench.write("", "Triton's kernels need CUDA: nothing compared here; the tests compare them in its interpreter.")
        return
    from sslx.data_loaders.views import triton_backend

    bench.write("", "| views | from torch on the card | from torch on the CPU |", "|---|---:|---:|")
    worst = 0.0
    for shape, options in (
        ((3, 224, 224), FULL), ((3, 224, 224), ALL), ((3, 32, 32), ALL), ((1, 28, 28), {**ALL, "fill": "edge"}),
        ((3, 256, 256), {**FULL, "size": 96}), ((3, 32, 32), {"pad": 4, "hflip": 0.5, "noise": 0.1}),
        ((2, 33, 47), {"crop": (0.3, 1.0), "rotation": 90.0, "blur": 0.5}),
    ):  # fmt: skip
        images = torch.randint(0, 256, (16, *shape), generator=torch.Generator().manual_seed(0)).byte()
        law = Standard(**options).law(*shape[1:])
        sizes, base = np.full((16, 2), shape[1:], np.int64), int(key(Use.VIEWS, 0, 0))
        there = images.to(bench.device)
        mine = triton_backend.make(law, there, torch.arange(16), sizes, base, 0)[1]
        errors = []
        for on in (there, images):
            other = torch_backend.make(law, on, torch.arange(16), sizes, base, 0, compiled=False)[1]
            errors.append(float((mine.to(on.device) - other).abs().max()))
        worst = max(worst, *errors)
        name = " ".join(f"{option}={value}" for option, value in options.items() if option not in FULL) or "SimCLR's"
        bench.write(f"| {'x'.join(map(str, shape))}, {name} | {errors[0]:.1e} | {errors[1]:.1e} |")
    bench.write(
        "", f"Triton's views {'equal' if worst <= 2e-5 else 'DIFFER from'} the others: {worst:.1e}, expected 2e-5."
    )


def measure_views(bench: Bench, copy: float) -> None:
    for size, samples, J in VIEWS[bench.small]:
        if bench.late(f"views of {size} px"):
            return
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (samples, 3, size, size), generator=generator).byte().to(bench.device)
        radius = Standard().law(size, size).radius

        def ours(backend: str, images: Tensor = images, J: int = J, **more: Any) -> Callable[[], Any]:
            policy, index = Standard(count=J, backend=backend, **FULL), torch.arange(len(images))
            return lambda: policy(images, index, seed=0, epoch=0)

        found = {"sslx": ours("auto"), "sslx, views.backend=torch": ours("torch")}
        try:
            found["kornia"] = kornia(images, J, FULL, size, radius)
        except ImportError:
            bench.write("", "(kornia is not installed)")
        one, few = torchvision(FULL, size, radius), images[:4]
        found["torchvision v2, an image at a time"] = lambda one=one, few=few, J=J: [
            one(x) for x in few for _ in range(J)
        ]
        views = {name: J * (4 if "torchvision" in name else samples) for name in found}
        bound = copy / (size * size * 3 * (1 / J + 4))  # images are read once, views are written once
        bench.write("", f"Views of {size} px, J = {J}, {samples} images, SimCLR's chain", "")
        bench.write("| | views/s | of the bound | peak, GB |", "|---|---:|---:|---:|")
        for name, (spent, peak) in bench.turns(found).items():
            rate = views[name] / spent
            bench.write(f"| {name} | {rate:,.0f} | {rate / bound:.1%} | {peak:.2f} |")
        bench.write(f"| bound: images read and views written once | {bound:,.0f} | | |")


# --- steps ------------------------------------------------------------------------------------------------------------


def engine(bench: Bench, step: Step, folder: Path) -> Engine:
    _, options, shape, batch = step
    config = configure(options, {"train": {"batch_size": batch, "log_every": 1000, "epochs": 1000}})
    many = 2 * batch if shape[-1] > 100 else 8 * batch
    images = torch.randint(0, 256, (many, *shape), generator=torch.Generator().manual_seed(0)).byte()
    runtime = Runtime(bench.device, precision=config.train.precision)
    method = build(config, shape, len(images)).to(bench.device)
    folder.mkdir(parents=True)
    return Engine(config, method, Split(images), runtime, RunFolder(folder), lambda *_, **__: None, progress=False)


def whole(made: Engine) -> Callable[[], Any]:
    """A step with its views, as in a run."""
    batches = iter(made.batches(0, 0))

    def act() -> None:
        nonlocal batches
        views = next(batches, None)
        if views is None:
            batches = iter(made.batches(made.step // made.per_epoch, 0))
            views = next(batches)
        made.update(views, 0)
        made.step += 1

    return act


def bare(made: Engine, views: Views, device: torch.device) -> Callable[[], Any]:
    """The plain loop: the same module and nothing else."""
    config = made.config
    method = build(config, tuple(views.original.shape[1:]), len(made.split)).to(device).train()
    if device.type == "cuda":
        arrange(method)
    module = torch.compile(method) if config.train.compile else method
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3, fused=True)

    def act() -> None:
        with autocast(config.train.precision, device):
            loss = module(views).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return act


def waits(bench: Bench, made: Engine, act: Callable[[], Any]) -> str:
    """Whether a step waits for the device, by torch's own check."""
    if not bench.cuda:
        return "not checked"
    bench.seconds(act, 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            act()
    except RuntimeError as error:
        return f"yes: {str(error).splitlines()[0][:60]}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no" if made.gate is not None else "yes: no gate"


def measure_steps(bench: Bench, folder: Path) -> None:
    bench.write("", "Steps", "")
    bench.write("| | waits | whole step | update | plain loop | images/s | of the plain loop | peak, GB |")
    bench.write("|---|---|---:|---:|---:|---:|---:|---:|")
    for number, step in enumerate(steps(bench.small)):
        if bench.late(step[0]):
            return
        try:
            made = engine(bench, step, folder / str(number))
            act, views = whole(made), next(made.batches(0, 0))
            waiting = waits(bench, made, act)
            found = bench.turns(
                {
                    "whole": act,
                    "update": lambda m=made, v=views: m.update(v, 0),
                    "plain": bare(made, views, bench.device),
                }
            )
        except Exception as error:  # the other rows are worth having
            bench.write(
                f"| {step[0]} | failed: {type(error).__name__}: {str(error).splitlines()[0][:80]} | | | | | | |"
            )
            continue
        spent = {name: seconds for name, (seconds, _) in found.items()}
        times = " | ".join(f"{spent[name] * 1e3:.2f} ms" for name in ("whole", "update", "plain"))
        rate, share = step[3] / spent["whole"], spent["plain"] / spent["whole"]
        peak = f"{found['whole'][1]:.1f}"
        bench.write(f"| {step[0]}, batch {step[3]} | {waiting} | {times} | {rate:,.0f} | {share:.0%} | {peak} |")
        del made, act, views, found
        if bench.cuda:
            torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="everything once, on small images and networks")
    parser.add_argument("--out", type=Path, help=f"file that is written; by default {RESULT.name}, if not --small")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type != "cuda" and not arguments.small:
        parser.error("without a CUDA device there is nothing to measure; --small runs everything once")
    bench = Bench(device, arguments.small)
    card = f"{torch.cuda.get_device_name(device)}; " if bench.cuda else ""
    bench.write(
        "# One card", "", "`python benchmarks/device.py`" + (" --small" if bench.small else ""), "", card + machine()
    )
    if bench.small:
        bench.write("", "**Small images and networks, once: nothing here is a measurement.**")
    copy = rates(bench)
    equal(bench)
    with TemporaryDirectory() as folder:
        measure_steps(bench, Path(folder))
        measure_views(bench, copy)
    out = arguments.out or (None if bench.small else RESULT)
    if out is not None:
        out.write_text("\n".join(bench.lines) + "\n")


if __name__ == "__main__":
    main()
