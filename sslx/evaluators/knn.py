"""Classification by nearest neighbours, which tests whether images with similar representations share a class."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import Evaluation, Evaluator, Result, Use, option, permutation
from sslx.evaluators.common import finite, labels, without_classes

_CHUNK = 4096  # queries at a time at most, so that votes take (4096, classes) and not (queries, classes)
_MOST_HELD_OUT = 10_000  # 10 000 choose k to within half a percent of accuracy; more only takes time
_LARGEST = 1e15  # squares of larger features, summed over D, leave float32


class KNN(Evaluator):
    """Classification of every test image by its nearest training images, found by exact search (FAISS).

    Scores:
        knn: accuracy of the majority among the k nearest by Euclidean distance. k between 1 and `neighbours` is the
            one that is best on a held-out part of the training set, searched in the rest of it.
        knn-best-on-test: the highest test accuracy of all these k. Papers print this one, which is optimistic.
        knn-200-cosine: accuracy of the vote of the 200 most similar images, weighted by exp(cosine / temperature)
            (Wu et al. 2018, InstDisc; Caron et al. 2021, DINO).

    Ties go to the lowest label, as in scikit-learn. A test label that the training set lacks counts as an error.
    """

    best = 1.0

    neighbours: int = option(default=15, gt=0, help="Largest number of neighbours (k) that is tried.")
    held_out: float = option(default=0.2, gt=0, lt=1, help="Part of the training set that chooses k, at most 10 000.")
    cosine_neighbours: int = option(default=200, gt=0, help="Number of neighbours that vote by cosine similarity.")
    temperature: float = option(default=0.07, gt=0, help="A neighbour by cosine weighs exp(cosine / temperature).")

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def evaluate(self, evaluation: Evaluation) -> Result:
        import faiss  # here, so that evaluators can be listed where faiss is not installed

        z, q = finite(evaluation, largest=_LARGEST)
        known, truths = labels(evaluation)
        n, dimensions = z.shape

        order = permutation(n, Use.EVALUATION, evaluation.seed)
        held_out, rest = order.tensor_split([min(math.ceil(self.held_out * n), _MOST_HELD_OUT, n - 1)])
        tuning = _majority(
            faiss.IndexFlatL2(dimensions),
            bank=(z[rest], known[rest]),
            queries=(z[held_out], known[held_out]),
            most=min(self.neighbours, len(rest)),
        )
        k = 1 + tuning.index(max(tuning))  # the smallest of equals

        bank, queries = (z, known), (q, truths)
        accuracies = _majority(faiss.IndexFlatL2(dimensions), bank, queries, min(self.neighbours, n))
        best = 1 + accuracies.index(max(accuracies))
        cosine_k = min(self.cosine_neighbours, n)
        cosine = _weighted(faiss.IndexFlatIP(dimensions), bank, queries, cosine_k, self.temperature)
        return Result(
            scores={
                "knn": accuracies[k - 1],
                "knn-best-on-test": max(accuracies),
                f"knn-{self.cosine_neighbours}-cosine": cosine,
            },
            protocol={
                "bank": n,
                "queries": len(q),
                "dimensions": dimensions,
                "search": f"exact, faiss {faiss.__version__}",
                "distance": "euclidean",
                "vote": "majority, ties to the lowest label",
                "k": k,
                "k_chosen_on": "a held-out part of the training set, searched in the rest of it",
                "k_best_on_test": best,
                "best_on_test": "k chosen on the test set, as papers do: optimistic, for comparison with them",
                "held_out": len(held_out),
                "held_out_seed": evaluation.seed,
                "held_out_accuracies": tuning,  # of k = 1, 2, ...
                "test_accuracies": accuracies,  # of k = 1, 2, ...
                "cosine_k": cosine_k,
                "cosine_temperature": self.temperature,
                "cosine_vote": "weighted by exp(cosine / temperature), ties to the lowest label",
            },
            summary=(
                f"k between 1 and {len(tuning)}, chosen on {len(held_out)} held-out training images; "
                f"knn-best-on-test chooses k on the test set (optimistic). Exact search over {n} training images"
            ),
        )


Labelled = tuple[Tensor, Tensor]  # features (n, D) and their labels (n,)


def _majority(index: Any, bank: Labelled, queries: Labelled, most: int) -> list[float]:
    """Accuracies of the majority vote among the k nearest, for k = 1..most, from one search."""
    (z, labels), (q, truths) = bank, queries
    # Distances stay the same, but faiss computes |q|² + |z|² - 2qz for many queries, and a large offset cancels in it:
    # with features around 1000 ± 1 it finds 2 % of the true neighbours, centred all of them.
    z, q = z - z.mean(dim=0), q - z.mean(dim=0)
    classes, codes = labels.unique(return_inverse=True)
    right = [0] * most
    for (_, positions), truth in zip(_search(index, z, q, most), _chunks(truths), strict=True):
        votes = torch.zeros(len(positions), len(classes), dtype=torch.int32)
        rows = torch.arange(len(positions))
        for i, code in enumerate(codes[positions].unbind(dim=1)):
            votes[rows, code] += 1
            right[i] += int((classes[votes.argmax(dim=1)] == truth).sum())  # argmax takes the first of equals
    return [count / len(q) for count in right]


def _weighted(index: Any, bank: Labelled, queries: Labelled, k: int, temperature: float) -> float:
    """Accuracy of the vote of the k most similar images, with weights exp(cosine / temperature)."""
    (z, labels), (q, truths) = bank, queries
    classes, codes = labels.unique(return_inverse=True)
    right = 0
    found = _search(index, F.normalize(z), F.normalize(q), k)
    for (similarity, positions), truth in zip(found, _chunks(truths), strict=True):
        # Weights relative to the most similar: the same vote, and no temperature overflows.
        weights = ((similarity - similarity[:, :1]).double() / temperature).exp()
        votes = weights.new_zeros(len(positions), len(classes)).scatter_add_(1, codes[positions], weights)
        right += int((classes[votes.argmax(dim=1)] == truth).sum())
    return right / len(q)


def _search(index: Any, z: Tensor, q: Tensor, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fill `index` with z (n, D) and find the k nearest of q (m, D), nearest first: values and positions (chunk, k)."""
    index.add(z.numpy())
    for chunk in _chunks(q):
        values, positions = index.search(chunk.numpy(), k)
        yield torch.from_numpy(values), torch.from_numpy(positions)


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    """Parts of equal size: faiss takes twice as long for each query where there are fewer than 2000."""
    return x.tensor_split(max(1, math.ceil(len(x) / _CHUNK)))
