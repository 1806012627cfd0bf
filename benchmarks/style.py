"""What a representation keeps of an image's style: R² of rotation and shift from frozen features.

python benchmarks/style.py                 all candidates, `--only simvae` or `--only "vae, variance 0.05"` for some

Every method is trained for the same processor time, on the same images of `styled-fashion`, with the same small
networks and views that change the style (`restyle`). SimVAE and VAE are swept over the same variances of the
likelihood. The other losses act on the representation itself, without a projection head, and get larger batches, on
which they depend. A method that is not installed is left out. Rows of earlier calls stay beside those of this one, if
the settings are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

import sslx
from sslx.core.dotted import merge
from sslx.plugins.registry import registry
from sslx.runs.session import resume

FACTORS = ("rotation", "dx", "dy")
VARIANCES = (0.02, 0.05, 0.1)
HIDDEN = (256, 256)


def candidates() -> dict[str, dict[str, Any]]:
    """The part of the config in which the rows differ, by the name of the row."""
    encoder = {"use": "mlp", "hidden": HIDDEN}
    found: dict[str, dict[str, Any]] = {}
    for name in ("simvae", "vae"):
        for variance in VARIANCES:
            likelihood = {"use": "gaussian", "variance": variance}
            decoder = {"use": "mlp", "hidden": HIDDEN, "likelihood": likelihood}
            method = {"use": name, "encoder": encoder, "decoder": decoder}
            found[f"{name}, variance {variance:g}"] = {"method": method, "train": {"batch_size": 64}}
    for name in ("simclr", "vicreg", "barlow-twins"):
        method = {"use": name, "encoder": encoder, "projector": []}
        found[name] = {"method": method, "train": {"batch_size": 256}}
    installed = registry().providers("method")
    return {row: part for row, part in found.items() if part["method"]["use"] in installed}


def measure(config: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train, or go on with what an earlier call began, and read the factors from the representation."""
    run = resume(out) if out.exists() else sslx.run(config=config, evaluators=["knn", "style"], out=out, device="cpu")
    found = {name: run.results["trained"][name]["scores"] for name in ("knn", "style")}
    return {
        "r2": {name: found["style"][f"style-{name}"] for name in FACTORS},
        "knn": found["knn"]["knn"],
        "steps": run.folder.metrics()[-1]["step"],
        "cpu_seconds": run.folder.read("training.json")["cpu_seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a method or a row; repeatable")
    parser.add_argument("--subset", type=int, default=20_000)
    parser.add_argument("--cpu-seconds", type=float, default=120)
    parser.add_argument("--runs", type=Path, default="runs", help="folder of the runs, which are taken up if stopped")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "style.json")
    arguments = parser.parse_args()
    config = {
        "dataset": "styled-fashion",
        "subset": arguments.subset,
        "train": {"cpu_seconds": arguments.cpu_seconds, "epochs": 100_000},
    }
    machine: dict[str, Any] = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if results.get("config") != config:
        results = {"config": config, "rows": {}}
    for row, part in candidates().items():
        if arguments.only is None or not {row, part["method"]["use"]}.isdisjoint(arguments.only):
            found = measure(merge(config, part), arguments.runs / f"{row}, {arguments.cpu_seconds:g} s")
            results["rows"][row] = {**part, **found, **machine, "load_average": os.getloadavg()[0]}
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"| method | {' | '.join(FACTORS)} | knn | steps |\n| --- |{' --- |' * (len(FACTORS) + 2)}")
    for row in (name for name in candidates() if name in results["rows"]):
        found = results["rows"][row]
        scores = " | ".join(f"{found['r2'][name]:.2f}" for name in FACTORS)
        print(f"| {row} | {scores} | {found['knn']:.3f} | {found['steps']} |")
    print(
        f"\nR² of {', '.join(FACTORS)} by an MLP from frozen features, after {arguments.cpu_seconds:g} CPU-seconds on "
        f"{arguments.subset} images. SimVAE and VAE are swept over the same variances of the likelihood."
    )


if __name__ == "__main__":
    main()
