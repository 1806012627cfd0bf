"""Samples per second of the compiled sampler against the plain loop, and that both have one distribution.

    python benchmarks/sgld.py

Chains of 20 steps in the networks of GEDI, in batches as it trains with. The first call, which compiles, is timed
apart. Processor time of one thread, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from sslx.api import Context
from sslx.core.training.config import configure
from sslx.plugins.registry import registry

RESULTS = Path(__file__).parent / "results" / "sgld.json"
STEPS = 20
CASES: dict[str, tuple[tuple[int, int, int], int, dict[str, Any]]] = {
    "points, mlp 100-100": ((2, 1, 1), 400, {"use": "mlp", "hidden": [100, 100], "dim": 16}),
    "28x28, mlp 256-256": ((1, 28, 28), 64, {"use": "mlp", "hidden": [256, 256], "dim": 64}),
    "28x28, resnet8 of width 16": ((1, 28, 28), 64, {"use": "resnet8", "width": 16, "dim": 64}),
}


def measure(name: str, seconds: float) -> dict[str, Any]:
    """Chains of 20 steps per CPU-second, plain and compiled, and how far apart their ends are."""
    shape, batch, encoder = CASES[name]
    found: dict[str, Any] = {}
    ends = []
    for way, compiled in (("plain", False), ("compiled", True)):
        torch.manual_seed(0)
        method: Any = configure({"method": {"use": "gedi", "encoder": encoder}}).method
        method.build(Context(shape, samples=1000))
        method.eval()
        sampler = registry().resolve("energy", "sgld").cls(chains=batch, compiled=compiled)
        sampler.build(Context(shape, samples=1000))

        def draw(sampler: Any = sampler, method: Any = method) -> torch.Tensor:
            torch.manual_seed(1)
            return sampler.langevin(method.log_density, sampler.buffer, STEPS, sampler.low, sampler.high)

        start = time.process_time()
        ends.append(draw())
        first = time.process_time() - start
        start, n = time.process_time(), 0
        while (spent := time.process_time() - start) < seconds:
            draw()
            n += 1
        found[way] = {"samples_per_cpu_second": n * batch / spent, "first_call_cpu_seconds": first}
    found["largest_difference"] = float((ends[0] - ends[1]).abs().max())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {name: measure(name, arguments.cpu_seconds) for name in CASES}
    machine = {"torch": torch.__version__, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"}
    arguments.results.write_text(json.dumps({"steps": STEPS, "rows": rows, **machine}, indent=1) + "\n")
    print("| chains | plain, per CPU-s | compiled | times | first call, CPU-s | difference |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, row in rows.items():
        plain, fast = (row[way]["samples_per_cpu_second"] for way in ("plain", "compiled"))
        first, apart = row["compiled"]["first_call_cpu_seconds"], row["largest_difference"]
        print(f"| {name} | {plain:.0f} | {fast:.0f} | {fast / plain:.2f} | {first:.1f} | {apart:.1e} |")


if __name__ == "__main__":
    main()
