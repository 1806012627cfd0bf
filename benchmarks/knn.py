"""The kNN evaluator beside bare FAISS and scikit-learn: the same neighbours, side by side in one process.

    python benchmarks/knn.py                    # 60 000 images in the bank, 10 000 queries, 64 dimensions
    python benchmarks/knn.py --device cuda --bank 1281167 --queries 50000 --dimensions 768 --classes 1000 --rounds 1

All accuracies for k = 1..15, and the weighted votes of 10, 20, 100 and 200 neighbours. FAISS alone searches and does
not vote; scikit-learn, up to 100 000 in the bank, searches once for each of k = 1, 5, 15. sslx searches by FAISS, on a
GPU by its GPU index, and by torch. Features are overlapping normal clusters.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import faiss
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn.functional import normalize
from views import machine

from sslx.evaluators.knn import _SWEEP, _accuracies, _ranks
from sslx.evaluators.search import Search

Labelled = tuple[Tensor, Tensor]


def clusters(n: int, dimensions: int, means: Tensor, seed: int) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(means), (n,), generator=generator)
    return torch.randn(n, dimensions, generator=generator).add_(means[labels]), labels


def bare(index: Any, z: Tensor, q: Tensor, k: int) -> None:
    index.add(z.numpy())
    index.search(q.numpy(), k)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    d, device = arguments.dimensions, torch.device(arguments.device)
    scale = 0.35 * (64 / d) ** 0.25  # the classes overlap about as much in any number of dimensions
    means = scale * torch.randn(arguments.classes, d, generator=torch.Generator().manual_seed(0))
    bank, queries = clusters(arguments.bank, d, means, 1), clusters(arguments.queries, d, means, 2)
    accuracies: dict[str, dict[int, float]] = {}
    candidates: dict[str, tuple[Callable[[], Any], str]] = {}

    def majority(search: Search) -> None:
        found = _accuracies(_ranks(search, "euclidean", bank, queries, range(1, 16)))
        accuracies[f"majority, {search}"] = {k: found[k - 1] for k in (1, 5, 15)}

    def weighted(search: Search) -> None:
        found = _accuracies(_ranks(search, "cosine", bank, queries, _SWEEP, 0.07))
        accuracies[f"weighted, {search}"] = dict(zip(_SWEEP, found, strict=True))

    def sklearn() -> None:
        found = {}
        for k in (1, 5, 15):
            model = KNeighborsClassifier(k, algorithm="brute", n_jobs=-1).fit(bank[0].numpy(), bank[1].numpy())
            found[k] = float(model.score(queries[0].numpy(), queries[1].numpy()))
        accuracies["majority, scikit-learn"] = found

    one, other = "bare FAISS, k = 15", "bare FAISS, k = 200, cosine"
    if device.type == "cpu":
        unit = normalize(bank[0]), normalize(queries[0])
        candidates[one] = (lambda: bare(faiss.IndexFlatL2(d), bank[0], queries[0], 15), "")
        candidates[other] = (lambda: bare(faiss.IndexFlatIP(d), *unit, 200), "")
    for search in dict.fromkeys((Search.on(device, 200), Search("torch", device))):
        name = f"sslx, {search.engine} on {search.device}"
        candidates[f"{name}, all k <= 15"] = (partial(majority, search), one)
        candidates[f"{name}, k = 10, 20, 100, 200, cosine"] = (partial(weighted, search), other)
    if device.type == "cpu" and arguments.bank <= 100_000:
        candidates["scikit-learn, k = 1, 5, 15"] = (sklearn, one)

    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(arguments.rounds):
        for name, (run, _) in candidates.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    print(machine())
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**30
        print(f"{torch.cuda.get_device_name(device)}, at most {peak:.1f} GiB used by torch")
    print(
        f"\n{arguments.bank} in the bank, {arguments.queries} queries, {d} dimensions, {arguments.classes} classes, "
        f"{arguments.rounds} rounds\n"
    )
    print("| | s (median) | ratio |\n|---|---:|---:|")
    for name, (_, other) in candidates.items():
        note = ""
        if other in times:
            ratio = statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))
            note = f"{ratio:.2f} × {other}"
        print(f"| {name} | {statistics.median(times[name]):.2f} | {note} |")
    print("\naccuracies:")
    for name, found in sorted(accuracies.items()):
        print(f"- {name}: {found}")


if __name__ == "__main__":
    main()
