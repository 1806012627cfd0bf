"""GEDI on circles and moons, without each of its terms, and beside two of the methods that it is compared with.

    python benchmarks/gedi.py                 # eleven rows, two datasets, five seeds, 15 CPU-seconds each
    python benchmarks/gedi.py --only gedi --dataset moons --again

NMI of the likeliest cluster of each of 2000 test points with its curve. Of the restarts the one with the smallest
label-free score counts, and all are recorded. Tables 2 and 3 of the paper are beside it, as means over five runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import normalized_mutual_info_score

import sslx
from sslx.core.errors import NonFiniteError
from sslx.ssl_methods.gedi import GEDI

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "gedi.json"
DIFFERS = """What differs from the paper: networks 2-100-100-16-64-2 with leaky ReLUs (2-100-100-2-4-2 with ReLUs); view
noise of 0.08 on moons (0.03); chains that are clamped to the box of the data, with step 5e-4, noise 0.03 and a penalty
0.01 f² (5e-5, 0.01, none); a budget of processor time instead of 7k or 20k steps; 10,000 fixed points with noise 0.05
(not stated). What GEDI is compared with has no penalty, as printed. Without it GEDI finds the curves less often; with
it f stays small, and a density whose two logits share the two circles is a clustering of them by itself, as the rows of
JEM and of GEDI without L_INV with the penalty show: only where nothing separates the curves does L_INV matter."""

_FREE, _HELD = ({"energy": {"magnitude": magnitude}} for magnitude in (0.0, 0.01))

#: A method, and what a row sets beside what the points recommend. Clusters are the largest of as many outputs as there
#: are curves.
ROWS: dict[str, dict[str, Any]] = {
    "gedi": {},
    "gedi-no-gen": {},
    "jem": {"energy": {"steps": 10}},
    "gedi-no-prior": {},
    "gedi-no-inv": {},
    "barlow-twins": {"projector": [64, 2]},
    "swav": {"projector": [64, 16]},
    "gedi, no penalty": _FREE,
    "jem, with the penalty": {"energy": {"magnitude": 0.01, "steps": 10}},
    "gedi-no-prior, with the penalty": _HELD,
    "gedi-no-inv, with the penalty": _HELD,
}


def train(dataset: str, row: str, seed: int, cpu_seconds: float) -> dict[str, Any]:
    """What became of one run."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = sslx.run(
                row.split(",")[0], dataset=dataset, method=ROWS[row], seed=seed, out=Path(folder) / "run", device="cpu",
                train={"cpu_seconds": cpu_seconds, "epochs": 100_000}, evaluators="knn",
            )  # fmt: skip
        except NonFiniteError as error:
            return {"seed": seed, "stopped": str(error)}
        method: Any = run.method()
        _, test = run.config.dataset.load(Path(folder), offline=True)
        with torch.no_grad():
            clusters = getattr(method, "cluster", getattr(method, "embed", None))(test.images).argmax(dim=1)
        return {
            "seed": seed,
            "nmi": float(normalized_mutual_info_score(test.labels, clusters)),
            "steps": run.folder.metrics()[-1]["step"],
            **run.folder.read("training.json"),
        }


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run that the score without labels prefers."""
    return min((run for run in runs if "score" in run), key=lambda run: run["score"])


def diagnosis(run: dict[str, Any]) -> str:
    """What GEDI says of a run with its terms, by the thresholds of today."""
    excess = run.get("excess", {})
    return GEDI(clusters=2).diagnosis(excess) if {"invariance", "prior"} <= excess.keys() else ""


def show(results: dict[str, Any]) -> None:
    with open(HERE / "facts" / "gedi.csv") as file:
        paper = {(f["dataset"], f["row"]): f"{f['nmi']} ± {f['deviation']}" for f in csv.DictReader(file)}
    print("| points | method | NMI, best by score | NMI, mean | NMI of all | diagnosis of the best | paper, mean |")
    print("|---|---|---:|---:|---|---|---:|")
    for dataset, rows in results.items():
        for row, runs in rows.items():
            chosen, all_ = best(runs), " ".join(f"{run['nmi']:.2f}" if "nmi" in run else "stopped" for run in runs)
            said = diagnosis(chosen) or chosen["diagnosis"].split("; ")[-1]
            figure = paper.get((dataset, row.split(",")[0]), "")
            known = [run["nmi"] for run in runs if "nmi" in run]
            mean = f"{statistics.fmean(known):.2f} ± {statistics.stdev(known):.2f}"
            print(f"| {dataset} | {row} | {chosen['nmi']:.2f} | {mean} | {all_} | {said} | {figure} |")
    runs = [run for rows in results.values() for all_ in rows.values() for run in all_ if diagnosis(run)]
    well = [run["nmi"] for run in runs if diagnosis(run).startswith("none")]
    rest = [run["nmi"] for run in runs if not diagnosis(run).startswith("none")]
    print(f"\n{DIFFERS}")
    missed = sum(nmi > 0.9 for nmi in rest)
    print(f"\nThe diagnosis sees no labels. Of {len(runs)} runs it finds no failure in {len(well)}, whose NMI is")
    print(f"{min(well):.2f} or more, and some in {len(rest)}, {missed} of which have an NMI above 0.9 all the same.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--dataset", default="circles,moons")
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--cpu-seconds", type=float, default=15)
    parser.add_argument("--again", action="store_true", help="also what the results have already")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {"results": {}}
    results |= {"torch": torch.__version__, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"}
    for row in arguments.only:
        for dataset in arguments.dataset.split(","):
            runs = results["results"].setdefault(dataset, {}).setdefault(row, [])
            if arguments.again:
                runs.clear()
            for seed in range(len(runs), arguments.restarts):
                runs.append(train(dataset, row, seed, arguments.cpu_seconds))
                arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    show(results["results"])


if __name__ == "__main__":
    main()
