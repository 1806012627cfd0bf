"""What the protocol does to a score: one frozen encoder, scored as SimVAE's paper does it and as sslx does.

    python benchmarks/protocols.py                # three seeds, about half an hour on one core; continues where it was
    python benchmarks/protocols.py --seeds 3      # one seed more

The encoder is SimVAE's MLP for Fashion-MNIST with its initial weights and a latent of 10 dimensions, so that nothing
but the protocol can differ. The paper prints a row for it.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path

import torch

from sslx.core.training.evaluation import evaluate
from sslx.core.training.run import Launch, build
from sslx.core.training.runtime import Runtime
from sslx.runs.data import chosen, facts, load_data
from sslx.runs.plan import plan

RESULTS = Path(__file__).parent / "results" / "protocols.json"
ADAM = {"use": "probe", "optimizer": "adam", "lr": 3e-4, "epochs": 200, "batch_size": 128, "schedule": "constant"}
OPTIONS = {
    "dataset": "fashion-mnist",
    "encoder.dim": 10,
    "representation": "latent",
    "evaluators.standardized-lp": {**ADAM, "standardize": True},
    "evaluators.standardized-mp": {**ADAM, "standardize": True, "hidden": 0},
}
#: What is shown: the row's name, the evaluator and score of the linear column, of the MLP's and of kNN's.
ROWS = {
    "as in the paper: Adam at 3e-4, 200 epochs, raw features, best epoch or k on the test set": (
        ("lp", "probe-best-on-test"), ("mp", "probe-best-on-test"), ("knn", "knn-best-on-test"),
    ),
    "the same, after the last epoch; k by a held-out part": (("lp", "probe"), ("mp", "probe"), ("knn", "knn")),
    "the same on standardized features": (("standardized-lp", "probe"), ("standardized-mp", "probe"), None),
    "`linear` and `mlp`, which converge and choose nothing on the test set": (
        ("linear", "linear"), ("mlp", "mlp"), None,
    ),
}  # fmt: skip
PRINTED = "| printed (SimVAE, ICLR version, Table 1, Random) | 51.2 ± 0.6 | 49.8 ± 0.8 | 66.5 ± 0.4 |"


def scores(seed: int) -> dict[str, dict[str, float]]:
    """Scores of the encoder with these initial weights, by evaluator, as of `sslx run -p random --protocol simvae`."""
    options = OPTIONS | {"seed": seed}
    (config,) = plan(options, methods=["random"], protocol="simvae", evaluators=["linear", "mlp"]).values()
    # The 200 starts of the mixture take hours, and no probe depends on them.
    evaluators = {name: part for name, part in config.evaluators.items() if name != "gmm"}
    runtime, launch = Runtime.start("cpu"), Launch("cpu")
    data = chosen(config, load_data(config.dataset, launch, runtime))
    method, device = build(config, **facts(data[0])), torch.device("cpu")
    found = evaluate(evaluators, method, data, config.views, device, seed, lambda dataset: data, f"seed {seed}")
    return {name: {**result["scores"]} for name, result in found.items()}


def cell(runs: list[dict[str, dict[str, float]]], which: tuple[str, str] | None) -> str:
    if which is None:
        return ""
    values = [100 * run[which[0]][which[1]] for run in runs]
    error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{error}"


def page(runs: list[dict[str, dict[str, float]]]) -> str:
    """The table."""
    seeds = "one seed" if len(runs) == 1 else f"{len(runs)} seeds, mean and standard error"
    lines = [
        "# The protocol and the score",
        "",
        f"`python benchmarks/protocols.py`: {seeds}, accuracies in percent "
        f"(torch {torch.__version__}, {platform.machine()}). Fashion-MNIST, an untrained MLP encoder with a latent of "
        "10 dimensions; the features are the same in all rows but the printed one.",
        "",
        "| protocol | linear probe | MLP probe | kNN |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {' | '.join(cell(runs, which) for which in columns)} |" for name, columns in ROWS.items()),
        PRINTED,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="numbers with commas")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    found = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    for seed in arguments.seeds.split(","):
        if seed not in found:
            found[seed] = scores(int(seed))
            arguments.results.write_text(json.dumps(found, indent=1) + "\n")
    arguments.results.with_suffix(".md").write_text(page(list(found.values())))
    print(page(list(found.values())))


if __name__ == "__main__":
    main()
