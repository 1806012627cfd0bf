"""The kNN evaluator beside bare FAISS and scikit-learn: the same neighbours, side by side in one process.

    python benchmarks/knn.py                    # 60 000 images in the bank, 10 000 queries, 64 dimensions

All accuracies for k = 1..15, and the weighted vote of 200 neighbours. FAISS alone searches and does not vote;
scikit-learn searches once for each of k = 1, 5, 15. Features are ten overlapping normal clusters.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn.functional import normalize
from views import machine

from sslx.evaluators.knn import _majority, _weighted

Labelled = tuple[Tensor, Tensor]


def clusters(n: int, dimensions: int, means: Tensor, seed: int) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(means), (n,), generator=generator)
    return means[labels] + torch.randn(n, dimensions, generator=generator), labels


def bare(index: Any, z: Tensor, q: Tensor, k: int) -> None:
    index.add(z.numpy())
    index.search(q.numpy(), k)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    d = arguments.dimensions
    means = 0.35 * torch.randn(10, d, generator=torch.Generator().manual_seed(0))
    bank, queries = clusters(arguments.bank, d, means, 1), clusters(arguments.queries, d, means, 2)
    unit = normalize(bank[0]), normalize(queries[0])
    ours: dict[int, float] = {}
    theirs: dict[int, float] = {}

    def majority() -> None:
        accuracies = _majority(faiss.IndexFlatL2(d), bank, queries, 15)
        ours.update({k: accuracies[k - 1] for k in (1, 5, 15)})

    def sklearn() -> None:
        for k in (1, 5, 15):
            model = KNeighborsClassifier(k, algorithm="brute", n_jobs=-1).fit(bank[0].numpy(), bank[1].numpy())
            theirs[k] = float(model.score(queries[0].numpy(), queries[1].numpy()))

    candidates: dict[str, tuple[Callable[[], Any], str]] = {
        "bare FAISS, k = 15": (lambda: bare(faiss.IndexFlatL2(d), bank[0], queries[0], 15), ""),
        "sslx, all k <= 15": (majority, "bare FAISS, k = 15"),
        "scikit-learn, k = 1, 5, 15": (sklearn, "sslx, all k <= 15"),
        "bare FAISS, k = 200, cosine": (lambda: bare(faiss.IndexFlatIP(d), *unit, 200), ""),
        "sslx, k = 200, cosine": (
            lambda: _weighted(faiss.IndexFlatIP(d), bank, queries, 200, 0.07),
            "bare FAISS, k = 200, cosine",
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(arguments.rounds):
        for name, (run, _) in candidates.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    print(machine())
    print(f"\n{arguments.bank} in the bank, {arguments.queries} queries, {d} dimensions, {arguments.rounds} rounds\n")
    print("| | s (median) | ratio |\n|---|---:|---:|")
    for name, (_, other) in candidates.items():
        ratio = statistics.median(a / b for a, b in zip(times[name], times[other], strict=True)) if other else 1.0
        note = f"{ratio:.2f} × {other}" if other else ""
        print(f"| {name} | {statistics.median(times[name]):.2f} | {note} |")
    print(
        f"\naccuracies at k = 1, 5, 15: sslx {ours}, scikit-learn {theirs}: {'equal' if ours == theirs else 'DIFFER'}"
    )


if __name__ == "__main__":
    main()
