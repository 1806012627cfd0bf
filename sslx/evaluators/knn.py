"""Classification by nearest neighbours, which tests whether images with similar representations share a class."""

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from sslx.api import ConfigError, Evaluation, Evaluator, Parts, Result, Use, option, permutation
from sslx.evaluators.common import draw, finite, labels, without_classes
from sslx.evaluators.search import Distance, Search

_CHUNK = 4096  # queries at a time at most, so that votes take (4096, classes) and not (queries, classes)
_MOST_HELD_OUT = 10_000  # 10 000 choose k to within half a percent of accuracy; more only takes time
_LARGEST = 1e15  # squares of larger features, summed over D, leave float32
_SWEEP = (10, 20, 100, 200)  # k of the weighted vote in DINO, DINOv2 and DINOv3
_NO_VOTE = 1 << 62  # rank of a class that none of the neighbours has

Labelled = tuple[Tensor, Tensor]  # features (n, D), which for a bank may be `Parts`, and their labels (n,)


class KNN(Evaluator):
    """Classification of every test image by its nearest training images, found by exact search.

    Scores:
        knn: accuracy of the majority among the k nearest. k between 1 and `neighbours` is the one that is best on a
            held-out part of the training set, searched in the rest of it.
        knn-best-on-test: the highest test accuracy of all these k. Papers print this one, which is optimistic.
        knn-K-cosine: for each K of `cosine_neighbours`, accuracy of the vote of the K most similar images, weighted by
            exp(cosine / temperature) (Wu et al. 2018, InstDisc; Caron et al. 2021, DINO).
        knn-K-cosine-N-shot: the same with N training images of each class, for each N of `shots`. The mean over draws.
        ...-top-5, ...-balanced: what `also` asks for: how often the right class is among the five with most votes, and
            the mean over the classes of the accuracy of each.

    Ties go to the lowest label, as in scikit-learn. A test label that the training set lacks counts as an error.
    """

    best = 1.0
    floors = True
    in_parts = True

    neighbours: int = option(default=15, gt=0, help="Largest number of neighbours (k) that is tried.")
    distance: Distance = option(default="euclidean", help="Distance by which the k nearest are found.")
    held_out: float = option(default=0.2, gt=0, lt=1, help="Part of the training set that chooses k, at most 10 000.")
    cosine_neighbours: int | tuple[int, ...] = option(
        default=200, gt=0, help="Numbers of neighbours that vote by cosine similarity, with a score for each."
    )
    temperature: float = option(default=0.07, gt=0, help="A neighbour by cosine weighs exp(cosine / temperature).")
    also: tuple[Literal["top-5", "balanced"], ...] = option(
        default=(), help="Further scores: top-5 accuracy of the weighted votes, balanced accuracy."
    )
    shots: int | tuple[int, ...] = option(
        default=(), gt=0, help="Numbers of training images of each class that vote by cosine, with a score for each."
    )
    repeats: int = option(default=5, ge=2, help="Number of draws of these few images, of which scores are the mean.")

    def __attrs_post_init__(self) -> None:
        if _listed(self.shots) and not _listed(self.cosine_neighbours):
            raise ConfigError("shots: they vote by cosine similarity, expected cosine_neighbours beside it")

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, q = finite(evaluation, largest=_LARGEST)
        known, truths = labels(evaluation)
        n, dimensions = z.shape
        bank, queries = (z, known), (q, truths)
        cosine_ks = _listed(self.cosine_neighbours)
        search = Search.on(evaluation.device, max(self.neighbours, *cosine_ks, 1))

        order = permutation(n, Use.EVALUATION, evaluation.seed)
        held_out, rest = order.tensor_split([min(math.ceil(self.held_out * n), _MOST_HELD_OUT, n - 1)])
        ks = range(1, min(self.neighbours, len(rest)) + 1)
        held = (z[held_out].whole() if isinstance(z, Parts) else z[held_out], known[held_out])
        tuning = _accuracies(_ranks(search, self.distance, (z[rest], known[rest]), held, ks))
        k = 1 + tuning.index(max(tuning))  # the smallest of equals
        ks = range(1, min(self.neighbours, n) + 1)
        ranks = _ranks(search, self.distance, bank, queries, ks)
        accuracies = _accuracies(ranks)

        scores = {"knn": accuracies[k - 1], "knn-best-on-test": max(accuracies)}
        if "balanced" in self.also:
            scores["knn-balanced"] = _balanced(ranks[:, k - 1], truths)
        protocol = {
            "bank": n,
            "queries": len(q),
            "dimensions": dimensions,
            "search": str(search),
            "distance": self.distance,
            "vote": "majority, ties to the lowest label",
            "k": k,
            "k_chosen_on": "a held-out part of the training set, searched in the rest of it",
            "k_best_on_test": 1 + accuracies.index(max(accuracies)),
            "best_on_test": "k chosen on the test set, as papers do: optimistic, for comparison with them",
            "held_out": len(held_out),
            "held_out_seed": evaluation.seed,
            "held_out_accuracies": tuning,  # of k = 1, 2, ...
            "test_accuracies": accuracies,  # of k = 1, 2, ...
        }
        summary = (
            f"k between 1 and {len(tuning)}, chosen on {len(held_out)} held-out training images; "
            f"knn-best-on-test chooses k on the test set (optimistic). Exact search over {n} training images"
        )
        if cosine_ks:
            sweep = sorted({k for k in _SWEEP if k < max(cosine_ks)}.union(cosine_ks))  # the others cost nothing
            ranks = _ranks(search, "cosine", bank, queries, sweep, self.temperature)
            scores |= self._cosine_scores(ranks[:, [sweep.index(k) for k in cosine_ks]], truths)
            protocol |= {
                "cosine_accuracies": dict(zip(map(str, sweep), _accuracies(ranks), strict=True)),  # all, if k > bank
                "cosine_temperature": self.temperature,
                "cosine_vote": "weighted by exp(cosine / temperature), ties to the lowest label",
            }
        if "top-5" in self.also:
            protocol["top_5"] = "a class without a vote is not among the five"
        if "balanced" in self.also:
            protocol["balanced"] = "mean of the accuracies of the classes that the test set has"
        if shots := _listed(self.shots):
            drawn = self._few_shots(search, bank, queries, shots, evaluation.seed)
            scores |= {name: statistics.mean(values) for name, values in drawn.items()}
            protocol |= {
                "few_shot": {
                    name: {"draws": values, "standard_error": statistics.stdev(values) / math.sqrt(self.repeats)}
                    for name, values in drawn.items()
                },
                "few_shot_draws": "the same number of each class, or all where it has fewer; 5 include the 1",
                "few_shot_seed": evaluation.seed,
            }
            summary += f"; few shots are the mean of {self.repeats} balanced draws"
        return Result(scores, protocol, summary)

    def _cosine_scores(self, ranks: Tensor, truths: Tensor, suffix: str = "") -> dict[str, float]:
        """Scores of the weighted vote from the ranks (m, len(cosine_neighbours)) of the right class."""
        scores = {}
        for k, rank in zip(_listed(self.cosine_neighbours), ranks.unbind(dim=1), strict=True):
            name = f"knn-{k}-cosine{suffix}"
            scores[name] = _accuracies(rank[:, None])[0]
            if "top-5" in self.also:
                scores[f"{name}-top-5"] = _accuracies(rank[:, None], first=5)[0]
            if "balanced" in self.also:
                scores[f"{name}-balanced"] = _balanced(rank, truths)
        return scores

    def _few_shots(
        self, search: Search, bank: Labelled, queries: Labelled, shots: Iterable[int], seed: int
    ) -> dict[str, list[float]]:
        """Scores of the weighted vote of a few training images of each class, for each draw of them."""
        (z, known), ks = bank, _listed(self.cosine_neighbours)
        drawn = dict[str, list[float]]()
        for repeat in range(self.repeats):
            for n in shots:
                few = draw(known, n, seed, repeat)
                ranks = _ranks(search, "cosine", (z[few], known[few]), queries, ks, self.temperature)
                for name, score in self._cosine_scores(ranks, queries[1], f"-{n}-shot").items():
                    drawn.setdefault(name, []).append(score)
        return drawn


def _listed(numbers: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys((numbers,) if isinstance(numbers, int) else numbers))


def _ranks(
    search: Search,
    distance: Distance,
    bank: Labelled,
    queries: Labelled,
    ks: Sequence[int],
    temperature: float | None = None,
) -> Tensor:
    """Ranks of the right class in the votes of the k nearest, (m, len(ks)) on the CPU, from one search; 0 is the first.

    Each neighbour has one vote, or with a temperature exp(similarity / temperature). Of classes with equal votes the
    lowest label is first. If k is larger than the bank, all vote.
    """
    (z, labels), (q, truths) = bank, queries
    reached = [min(k, len(z)) for k in ks]
    values, positions = search(z, q, max(reached), distance)
    classes, codes = labels.unique(return_inverse=True)
    truth = torch.searchsorted(classes, truths).clamp(max=len(classes) - 1)
    truth[classes[truth] != truths] = len(classes)  # a label that the bank lacks is a class that nobody votes for
    codes, truth = codes.to(positions.device), truth.to(positions.device)
    found = []
    for value, position, right in zip(*(x.split(_CHUNK) for x in (values, positions, truth)), strict=True):
        if temperature is None:
            weights = torch.ones_like(position, dtype=torch.int32)
        else:
            # Relative to the most similar: the same vote, and no temperature overflows.
            weights = ((value - value[:, :1]).double() / temperature).exp()
        votes = weights.new_zeros(len(right), len(classes) + 1)
        right, code, after = right[:, None], codes[position], dict[int, Tensor]()
        before = torch.arange(votes.shape[1], device=votes.device) < right
        for start, k in pairwise((0, *sorted(set(reached)))):
            votes.scatter_add_(1, code[:, start:k], weights[:, start:k])
            mine = votes.gather(1, right)
            ahead = ((votes > mine) | ((votes == mine) & before)).sum(dim=1)
            after[k] = ahead.masked_fill(mine[:, 0] == 0, _NO_VOTE)
        found.append(torch.stack([after[k] for k in reached], dim=1).cpu())
    return torch.cat(found)


def _accuracies(ranks: Tensor, first: int = 1) -> list[float]:
    """How often the right class is among the first ones, for each column of ranks."""
    return [count / len(ranks) for count in (ranks < first).sum(dim=0).tolist()]


def _balanced(rank: Tensor, truths: Tensor) -> float:
    """Mean over the classes of the accuracy of each."""
    _, codes = truths.unique(return_inverse=True)
    right = torch.bincount(codes, (rank == 0).double())
    return float((right / torch.bincount(codes)).mean())
