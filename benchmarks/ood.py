"""Out-of-distribution detection: trained on Fashion-MNIST, tested against MNIST, with equal processor time.

    python benchmarks/ood.py                      # five methods, 60 CPU-seconds each; continues where it was
    python benchmarks/ood.py --only jem --again

One encoder for all, fully connected, 256-256-64. Areas under the ROC curve as the `ood` evaluator has them, for the
trained and for the untrained method; nothing is fitted and no score is chosen.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

import sslx
from sslx.core.errors import NonFiniteError

RESULTS = Path(__file__).parent / "results" / "ood.json"
METHODS = ("jem", "gedi", "gedi-no-gen", "simclr", "vae")
ENCODER = {"use": "mlp", "hidden": [256, 256], "dim": 64}
SCORES = ("ood", "ood-density", "ood-confidence")


def train(name: str, cpu_seconds: float, subset: int) -> dict[str, Any]:
    """Scores, costs and settings of one method."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = sslx.run(
                name, dataset="fashion-mnist", subset=subset, method={"encoder": ENCODER}, out=Path(folder) / "run",
                device="cpu", train={"cpu_seconds": cpu_seconds, "epochs": 100_000},
                config={"evaluators": {"ood": {"against": "mnist"}}}, evaluators="ood",
            )  # fmt: skip
        except NonFiniteError as error:
            return {"stopped": str(error)}
        return {
            **{who: run.results[who]["ood"] for who in ("trained", "untrained")},
            **run.training,
            "steps": run.folder.metrics()[-1]["step"],
            "settings": run.folder.config(),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        }


def show(results: dict[str, Any]) -> None:
    heads = [f"{score}{suffix}" for score in SCORES for suffix in ("", ", untrained")]
    print(f"| method | {' | '.join(heads)} | steps |\n|---|{'---:|' * (len(heads) + 1)}")
    for name, row in results.items():
        if "stopped" in row:
            print(f"| {name} | {row['stopped']} |")
            continue
        values = [row[who]["scores"].get(score) for score in SCORES for who in ("trained", "untrained")]
        cells = " | ".join("" if value is None else f"{value:.3f}" for value in values)
        print(f"| {name} | {cells} | {row['steps']} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(METHODS), help="names with commas")
    parser.add_argument("--cpu-seconds", type=float, default=60)
    parser.add_argument("--subset", type=int, default=20_000)
    parser.add_argument("--again", action="store_true", help="also what the results have already")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    for name in arguments.only.split(","):
        if name not in results or arguments.again:
            results[name] = train(name, arguments.cpu_seconds, arguments.subset)
            arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    show(results)


if __name__ == "__main__":
    main()
