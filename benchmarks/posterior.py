"""Parametrizations of the variance of q(z|x): the loss in the first steps, by method, seed and precision.

    python benchmarks/posterior.py                                     # every candidate, three seeds, twelve steps
    python benchmarks/posterior.py --only tamed --seeds 20 --steps 100 --batch-size 16 --precisions fp32 bf16
    python benchmarks/posterior.py --precisions fp32 bf16 --device cuda --size 64

Encoder and decoder are `resnet18-small` on CIFAR-10. Every other option has its default: batches of 64 images, Adam
with a rate of 1e-3. A run spikes if a loss exceeds ten times its first one, and then ends. Results are written after
each run, and runs that they have already, of as many steps, are not repeated. `rounded` is for processors whose
bfloat16 arithmetic is slow: arithmetic in float32 with what enters and leaves each layer rounded to bfloat16.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torchvision.transforms.functional import resize

from sslx.api import Context, Split
from sslx.core.errors import NonFiniteError
from sslx.core.training.config import configure
from sslx.core.training.engine import Engine
from sslx.core.training.run import build, default_data_dir
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.plugins.registry import registry
from sslx.ssl_methods.parts.posteriors import GaussianPosterior, TamedGaussianPosterior

RESULTS = Path(__file__).parent / "results" / "posterior.json"
METHODS = ("simvae", "vae", "beta-vae", "aasae")
SPIKE = 10  # times the first loss


class Clamped(GaussianPosterior):
    def log_variance(self, spread: Tensor) -> Tensor:
        return spread.clamp(-15, 5)


class Tanh(GaussianPosterior):
    def log_variance(self, spread: Tensor) -> Tensor:
        return 8 * (spread / 8).tanh()


class SoftplusVariance(GaussianPosterior):
    """σ² = softplus, 1 at 0."""

    def log_variance(self, spread: Tensor) -> Tensor:
        return F.softplus(spread + math.log(math.e - 1)).log()


class SoftplusDeviation(GaussianPosterior):
    """σ = softplus, 1 at 0."""

    def log_variance(self, spread: Tensor) -> Tensor:
        return 2 * F.softplus(spread + math.log(math.e - 1)).log()


class Small(GaussianPosterior):
    """log σ² is 0 in the beginning."""

    def build(self, ctx: Context) -> Context:
        super().build(ctx)
        with torch.no_grad():
            for weight in self.moments.parameters():
                weight[ctx.latent :] = 0
        return ctx


class SmallClamped(Small, Clamped):
    pass


class SmallTamed(Small, TamedGaussianPosterior):
    pass


CANDIDATES: dict[str, type[GaussianPosterior]] = {
    "papers": GaussianPosterior,
    "clamped": Clamped,
    "tanh": Tanh,
    "softplus variance": SoftplusVariance,
    "softplus deviation": SoftplusDeviation,
    "tamed": TamedGaussianPosterior,
    "small": Small,
    "small, clamped": SmallClamped,
    "small, tamed": SmallTamed,
}


class Rounded(TorchFunctionMode):
    """Rounds operands and results of layers to bfloat16, and their gradients."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in (F.conv2d, F.linear, F.batch_norm, torch.conv2d, torch.batch_norm):
            return func(*args, **kwargs or {})
        operands = 3 if func in (F.conv2d, torch.conv2d, F.linear) else 1  # autocast leaves the moments of a norm alone
        args = [self.round(arg) if i < operands else arg for i, arg in enumerate(args)]
        return self.round(func(*args, **kwargs or {}))

    def round(self, value: Any) -> Any:
        return value.bfloat16().float() if isinstance(value, Tensor) else value


def train(
    candidate: str, method: str, precision: str, seed: int, split: Split, steps: int, batch_size: int, device: str
) -> dict[str, Any]:
    """Losses of one run, and the extreme values of log σ²."""
    mode = "bf16" if precision == "bf16" else "fp32"
    runtime = Runtime.start(device, mode)
    encoder = {"use": "resnet18-small", "posterior": {"use": CANDIDATES[candidate]}}
    config = configure(
        {"method": {"use": method, "encoder": encoder, "decoder": {"use": "resnet18-small"}}, "seed": seed},
        {"dataset": {"use": "cifar10"}, "train": {"precision": mode, "batch_size": batch_size}},
    )
    made: Any = build(config, tuple(split.images.shape[1:]), len(split)).to(runtime.device)
    losses: list[float] = []
    seen: list[float] = []

    def look(posterior: Any, features: Any, q: Any) -> None:
        seen.extend(q.variance.detach().log().aminmax())

    made.encoder.posterior.register_forward_hook(look)
    stopped = {}
    with tempfile.TemporaryDirectory() as folder, Rounded() if precision == "rounded" else nullcontext():
        engine = Engine(config, made, split, runtime, RunFolder(Path(folder)), lambda *_, **__: None, progress=False)
        for views in engine.batches(0, 0):
            try:
                terms, _ = engine.update(views, 0)
            except NonFiniteError as error:
                stopped = {"stopped": str(error).split(";")[0]}
                break
            engine.step += 1
            losses.append(float(terms.total.detach()))
            if len(losses) == steps or losses[-1] > SPIKE * losses[0]:
                break
    facts = {"first": losses[0], "largest": max(losses), "last": losses[-1], "ratio": max(losses) / losses[0]}
    return {**stopped, "steps": len(losses), **facts, "log_variance": [float(min(seen)), float(max(seen))]}


def show(settings: str, results: dict[str, Any]) -> None:
    print(f"\n{settings}\n")
    print("| candidate | method | precision | runs | steps | spikes | stopped | largest / first | last | log σ² |")
    print("|---|---|---|---:|---|---:|---:|---:|---:|---|")
    for row, runs in results.items():
        rows = list(runs.values())
        spikes, stopped = sum(r["ratio"] > SPIKE for r in rows), sum("stopped" in r for r in rows)
        whole = [r["last"] for r in rows if r["ratio"] <= SPIKE and "stopped" not in r]
        last = f"{sum(whole) / len(whole):.0f}" if whole else ""
        lowest, highest = min(r["log_variance"][0] for r in rows), max(r["log_variance"][1] for r in rows)
        steps = "-".join(map(str, sorted({min(r["steps"] for r in rows), max(r["steps"] for r in rows)})))
        counts = f"{len(rows)} | {steps} | {spikes} | {stopped} | {max(r['ratio'] for r in rows):.3g} | {last}"
        print(f"| {row.replace(': ', ' | ')} | {counts} | {lowest:.1f} to {highest:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES), metavar="CANDIDATE")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "rounded"], choices=["fp32", "bf16", "rounded"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--size", type=int, default=32, help="pixels, to which the images are enlarged")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {"results": {}}
    results |= {"torch": torch.__version__, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"}
    dataset: Any = registry().resolve("dataset", "cifar10").cls()
    split, _ = dataset.load(default_data_dir(), offline=False)
    if arguments.size != split.images.shape[-1]:
        split = attrs.evolve(split, images=resize(split.images[: 100 * arguments.batch_size], arguments.size))
    settings = f"{arguments.size} px, {arguments.batch_size} images a step"
    rows = results["results"].setdefault(settings, {})
    of = (split, arguments.steps, arguments.batch_size, arguments.device)
    for seed in range(arguments.seeds):
        for row in product(arguments.only, arguments.methods, arguments.precisions):
            runs = rows.setdefault(": ".join(row), {})
            known = runs.get(str(seed), {"steps": 0, "ratio": 0.0})
            if known["steps"] < arguments.steps and known["ratio"] <= SPIKE and "stopped" not in known:
                runs[str(seed)] = train(*row, seed, *of)
                arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    for settings, rows in results["results"].items():
        show(settings, rows)


if __name__ == "__main__":
    main()
