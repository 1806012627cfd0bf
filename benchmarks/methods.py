"""Every method on Fashion-MNIST with an equal budget of processor time, beside its untrained encoder and the floors.

    python benchmarks/methods.py                            # all methods, 60 CPU-seconds each; continues where it was
    python benchmarks/methods.py --only moco,byol --again   # these once more
    python benchmarks/methods.py --set train.lr=3e-4 --results elsewhere.json

Every other setting is as the method and the dataset have it by default. Results are written after each method, with
the settings of each row.
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
from sslx.core.errors import ConfigError
from sslx.core.values import Text
from sslx.plugins.registry import registry

RESULTS = Path(__file__).parent / "results" / "methods.json"
ROWS = ("trained", "untrained", "pca", "pixels")


def train(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Scores, costs and settings of one method, and the scores of its floors."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = sslx.run(name, out=Path(folder) / "run", device="cpu", evaluators="knn,linear", config=settings)
        except ConfigError as error:
            return {"refused": str(error)}
        results = {who: run.results.get(who, {}) for who in ROWS}
        scores = {who: [result.get("scores", {}) for result in each.values()] for who, each in results.items()}
        return {
            **{who: {key: value for each in found for key, value in each.items()} for who, found in scores.items()},
            "of": results["trained"]["knn"].get("of", {}),
            "cpu_seconds": run.training["cpu_seconds"],
            "steps": run.folder.metrics()[-1]["step"] if run.folder.metrics() else 0,
            "settings": run.folder.config(),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        }


def nested(settings: list[str]) -> dict[str, Any]:
    """["train.lr=1e-3"] -> {"train": {"lr": "1e-3"}}."""
    result: dict[str, Any] = {}
    for setting in settings:
        path, _, value = setting.partition("=")
        *groups, last = path.split(".")
        level = result
        for group in groups:
            level = level.setdefault(group, {})
        level[last] = Text(value)
    return result


def show(results: dict[str, Any]) -> None:
    print("| method | of | kNN | untrained | pca | pixels | linear | untrained | pca | pixels | steps | CPU-s |")
    print("|---|---|" + "---:|" * 10)
    ran = {name: row for name, row in results.items() if "knn" in row.get("trained", {})}
    for name, row in sorted(ran.items(), key=lambda item: -item[1]["trained"]["knn"]):
        ((of, width),) = row["of"].items()
        scores = " | ".join(f"{row[who].get(score, float('nan')):.3f}" for score in ("knn", "linear") for who in ROWS)
        print(f"| {name} | {of}, {width} | {scores} | {row['steps']} | {row['cpu_seconds']:.0f} |")
    for name in results.keys() - ran.keys():
        print(f"| {name} | {results[name].get('refused', 'failed')} |" + " |" * 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names with commas; all methods otherwise")
    parser.add_argument("--again", action="store_true", help="also what the results have already")
    parser.add_argument("--cpu-seconds", type=float, default=60)
    parser.add_argument("--subset", type=int, default=20_000)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as of sslx run, in full")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    settings = {
        "dataset": "fashion-mnist",
        "subset": arguments.subset,
        **nested(arguments.set),
    }
    settings["train"] = {"cpu_seconds": arguments.cpu_seconds, **settings.get("train", {})}
    for name in arguments.only.split(",") if arguments.only else registry().providers("method"):
        if name not in results or arguments.again:
            results[name] = train(name, settings)
            arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    show(results)


if __name__ == "__main__":
    main()
