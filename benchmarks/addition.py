"""Digits named by nothing but a rule: a + b = c on triples of MNIST, accuracy without any matching.

    python benchmarks/addition.py                        # all rows, three seeds each; continues where it was
    python benchmarks/addition.py --only nesy            # these rows alone
    python benchmarks/addition.py --show                 # the table of what is there

`nesy` has the constraint alone, `gedi-no-gen` with the balance of classes, `gedi` with L_GEN, too, of short chains. The
epochs are those at which a row takes at most two minutes of one core. Results are written after each run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

import sslx

RESULTS = Path(__file__).parent / "results" / "addition.json"
EPOCHS = {100: 200, 1000: 25}  # by triples
SEEDS = (0, 1, 2)
BATCH = {"batch_size": 60, "weight_decay": 1e-4}
CONSTRAINED = {"constraint": "addition", "encoder": {"use": "cnn", "dim": 64}, "projector": []}
METHODS: dict[str, dict[str, Any]] = {
    "nesy": {},
    "gedi-no-gen": CONSTRAINED,
    "gedi": {**CONSTRAINED, "energy": {"use": "sgld", "steps": 1, "magnitude": 0.1, "chains": 1000}},
}
#: GEDI, Table 6: median and standard deviation. The paper names no number of runs.
PAPER = {("nesy", 100): 0.10, ("nesy", 1000): 0.10, ("gedi", 100): 0.42, ("gedi", 1000): 0.96}


def train(name: str, triples: int, seed: int) -> dict[str, Any]:
    """Scores and costs of one run."""
    with tempfile.TemporaryDirectory() as folder:
        run = sslx.run(
            name,
            out=Path(folder) / "run",
            device="cpu",
            evaluators="cluster",
            seed=seed,
            dataset={"use": "mnist-addition", "triples": triples},
            method=METHODS[name],
            views={"count": 1, "crop": [1.0, 1.0], "pad": 2, "noise": 0.2},
            train={**BATCH, "epochs": EPOCHS[triples]},
        )
        scores = run.results["trained"]["cluster"]["scores"]
        return {
            "accuracy": scores["cluster-unmatched"],
            "nmi": scores["cluster-nmi"],
            "cpu_seconds": run.folder.read("training.json")["cpu_seconds"],
            "settings": run.folder.config(),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        }


def show(results: dict[str, Any]) -> None:
    print("| method | triples | accuracy | of each seed | NMI | CPU-s | paper |\n|---|---:|---:|---|---:|---:|---:|")
    for name in METHODS:
        for triples in EPOCHS:
            rows = [row for key, row in results.items() if key.startswith(f"{name} {triples} ")]
            if rows:
                accuracy, nmi, seconds = ([row[k] for row in rows] for k in ("accuracy", "nmi", "cpu_seconds"))
                paper = PAPER.get((name, triples), "")
                each = ", ".join(f"{a:.3f}" for a in accuracy)
                scores = f"{statistics.median(accuracy):.3f} | {each} | {statistics.median(nmi):.3f}"
                print(f"| {name} | {triples} | {scores} | {max(seconds):.0f} | {paper} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(METHODS), help="names with commas")
    parser.add_argument("--triples", type=int, nargs="*", default=list(EPOCHS))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--show", action="store_true", help="train nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    for seed in [] if arguments.show else arguments.seeds:
        for triples in arguments.triples:
            for name in arguments.only.split(","):
                key = f"{name} {triples} {seed}"
                if key not in results:
                    results[key] = train(name, triples, seed)
                    arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    show(results)


if __name__ == "__main__":
    main()
