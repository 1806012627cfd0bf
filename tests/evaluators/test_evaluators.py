"""What kNN and the linear probe promise, held against scikit-learn and plain numpy."""

from __future__ import annotations

import json
import math
import random
import warnings
from typing import Any

import attrs
import faiss
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sslx.api import ConfigError, DataError, Evaluation, Evaluator, Features
from sslx.evaluators.cluster import Cluster
from sslx.evaluators.knn import KNN
from sslx.evaluators.linear import Linear


def evaluation(train: Features, test: Features, seed: int = 0) -> Evaluation:
    nothing: Any = None  # these evaluators look at features only
    return Evaluation(
        train, test, method=nothing, data=nothing, views=nothing, device=torch.device("cpu"), seed=seed, load=nothing
    )


def blobs(n: int, seed: int, classes: int = 5, dimensions: int = 6, spread: float = 1.0) -> Features:
    """Overlapping Gaussian classes; the same classes for any seed."""
    means = torch.randn(classes, dimensions, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    return Features(means[labels] + spread * torch.randn(n, dimensions, generator=generator), labels, {})


def features(z: list[list[float]], labels: list[int] | None) -> Features:
    return Features(torch.tensor(z), None if labels is None else torch.tensor(labels), {})


def scikit_accuracies(train: Features, test: Features, ks: range) -> list[float]:
    found = []
    for k in ks:
        model = KNeighborsClassifier(k, algorithm="brute").fit(train.z.double().numpy(), train.labels)
        found.append(model.score(test.z.double().numpy(), test.labels))
    return found


# --- kNN --------------------------------------------------------------------------------------------------------------


def test_knn_is_that_of_scikit_learn_for_every_k() -> None:
    train, test = blobs(700, seed=1), blobs(300, seed=2)
    result = KNN(neighbours=15).evaluate(evaluation(train, test))
    assert result.protocol["test_accuracies"] == scikit_accuracies(train, test, range(1, 16))


def test_knn_is_that_of_scikit_learn_over_many_chunks_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslx.evaluators.knn._CHUNK", 64)
    train, test = blobs(400, seed=1), blobs(300, seed=2)
    result = KNN(neighbours=5).evaluate(evaluation(train, test))
    assert result.protocol["test_accuracies"] == scikit_accuracies(train, test, range(1, 6))
    assert result.scores["knn-200-cosine"] == numpy_cosine_accuracy(train, test, k=200, temperature=0.07)


def test_knn_does_not_suffer_from_an_offset_common_to_all_features(monkeypatch: pytest.MonkeyPatch) -> None:
    # What faiss does for many queries: |q|² + |z|² - 2qz by BLAS. It compares a few by differences, which are exact.
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 1)
    train, test = blobs(500, seed=1), blobs(300, seed=2)
    train, test = (Features(f.z + 1000, f.labels, {}) for f in (train, test))
    result = KNN(neighbours=3).evaluate(evaluation(train, test))
    assert result.protocol["test_accuracies"] == scikit_accuracies(train, test, range(1, 4))


def numpy_cosine_accuracy(train: Features, test: Features, k: int, temperature: float) -> float:
    bank, queries = (f.z.double().numpy() for f in (train, test))
    bank, queries = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (bank, queries))
    assert train.labels is not None and test.labels is not None
    right = 0
    for query, truth in zip(queries, test.labels.tolist(), strict=True):
        cosine = bank @ query
        votes: dict[int, float] = {}
        for i in np.argsort(-cosine)[:k]:
            label = int(train.labels[i])
            votes[label] = votes.get(label, 0.0) + math.exp(cosine[i] / temperature)
        right += max(votes, key=votes.__getitem__) == truth
    return right / len(queries)


@pytest.mark.parametrize(("k", "temperature"), [(200, 0.07), (20, 0.5), (200, 0.002)])
def test_the_cosine_vote_is_that_of_a_loop_in_numpy(k: int, temperature: float) -> None:
    train, test = blobs(600, seed=1, spread=1.5), blobs(250, seed=2, spread=1.5)
    result = KNN(cosine_neighbours=k, temperature=temperature).evaluate(evaluation(train, test))
    assert result.scores[f"knn-{k}-cosine"] == numpy_cosine_accuracy(train, test, k, temperature)


def test_no_temperature_is_too_low() -> None:
    """The limit is the nearest neighbour by cosine."""
    train, test = blobs(600, seed=1), blobs(250, seed=2)
    result = KNN(temperature=1e-6).evaluate(evaluation(train, test))
    assert result.scores["knn-200-cosine"] == numpy_cosine_accuracy(train, test, k=1, temperature=1.0)


def test_the_test_labels_have_no_say_in_k() -> None:
    train, test = blobs(600, seed=1, spread=2.0), blobs(300, seed=2, spread=2.0)
    assert test.labels is not None
    chosen, best_on_test = set(), set()
    for seed in range(5):
        shuffled = test.labels[torch.randperm(300, generator=torch.Generator().manual_seed(seed))]
        protocol = KNN().evaluate(evaluation(train, Features(test.z, shuffled, {}))).protocol
        chosen.add(protocol["k"])
        best_on_test.add(protocol["k_best_on_test"])
    assert len(chosen) == 1
    assert len(best_on_test) > 1  # or the labels would have had no say in anything


def test_k_is_the_best_on_the_held_out_part() -> None:
    result = KNN(held_out=0.25).evaluate(evaluation(blobs(600, seed=1), blobs(300, seed=2)))
    tuning = result.protocol["held_out_accuracies"]
    assert result.protocol["held_out"] == 150
    assert tuning[result.protocol["k"] - 1] == max(tuning)
    assert result.scores["knn"] == result.protocol["test_accuracies"][result.protocol["k"] - 1]


def test_the_held_out_part_depends_on_the_seed_alone() -> None:
    train, test = blobs(300, seed=1, spread=2.0), blobs(100, seed=2)
    first, again, other = (KNN().evaluate(evaluation(train, test, seed)) for seed in (3, 3, 4))
    assert first == again
    assert first.protocol["held_out_accuracies"] != other.protocol["held_out_accuracies"]
    assert first.protocol["test_accuracies"] == other.protocol["test_accuracies"]


def test_the_held_out_part_is_searched_in_the_rest_only() -> None:
    """Searched in itself, every image of random labels would find itself first."""
    z, labels = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)), torch.arange(500)
    result = KNN().evaluate(evaluation(Features(z, labels, {}), Features(z, labels, {})))
    assert result.protocol["held_out_accuracies"][0] == 0.0
    assert result.protocol["test_accuracies"][0] == 1.0


def test_a_small_part_of_a_large_training_set_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslx.evaluators.knn._MOST_HELD_OUT", 30)
    assert KNN().evaluate(evaluation(blobs(600, seed=1), blobs(50, seed=2))).protocol["held_out"] == 30


def test_the_headline_is_at_most_the_best_on_test() -> None:
    for seed in range(5):
        scores = KNN().evaluate(evaluation(blobs(200, seed, spread=2.0), blobs(100, seed + 50, spread=2.0))).scores
        assert list(scores) == ["knn", "knn-best-on-test", "knn-200-cosine"]
        assert scores["knn"] <= scores["knn-best-on-test"]


@pytest.mark.parametrize("evaluator", [KNN(), Linear()], ids=repr)
def test_classes_far_apart_score_one(evaluator: Evaluator) -> None:
    result = evaluator.evaluate(evaluation(blobs(400, seed=1, spread=0.01), blobs(200, seed=2, spread=0.01)))
    assert set(result.scores.values()) == {1.0}


@pytest.mark.parametrize("evaluator", [KNN(), Linear()], ids=repr)
def test_features_that_know_nothing_score_chance(evaluator: Evaluator) -> None:
    generator = torch.Generator().manual_seed(7)

    def noise(n: int) -> Features:
        z = torch.randn(n, 8, generator=generator)
        return Features(z, torch.randint(10, (n,), generator=generator), {})

    scores = evaluator.evaluate(evaluation(noise(1000), noise(1000))).scores
    tolerance = 4 * math.sqrt(0.1 * 0.9 / 1000)  # four standard deviations of a binomial: 0.038
    for name in scores.keys() - {"knn-best-on-test"}:  # a maximum, above chance by design
        assert scores[name] == pytest.approx(0.1, abs=tolerance), name


def test_ties_go_to_the_lowest_label() -> None:
    train = features([[0.0], [1.0], [100.0], [101.0]], [7, -3, 5, 5])
    test = features([[0.4], [0.6]], [-3, -3])
    assert KNN(neighbours=2).evaluate(evaluation(train, test)).protocol["test_accuracies"] == [0.5, 1.0]


@pytest.mark.parametrize("evaluator", [KNN(), Linear()], ids=repr)
def test_labels_may_be_any_integers(evaluator: Evaluator) -> None:
    train, test = blobs(300, seed=1), blobs(200, seed=2)
    names = torch.tensor([-7, -1, 3, 1000, 2**40])  # in order, so that ties fall the same way

    def renamed(f: Features) -> Features:
        assert f.labels is not None
        return Features(f.z, names[f.labels], {})

    expected = evaluator.evaluate(evaluation(train, test)).scores
    assert evaluator.evaluate(evaluation(renamed(train), renamed(test))).scores == expected


@pytest.mark.parametrize("evaluator", [KNN(), Linear()], ids=repr)
@pytest.mark.parametrize("unknown", [-1, 2, 9])
def test_a_class_that_only_the_test_set_has_counts_as_wrong(evaluator: Evaluator, unknown: int) -> None:
    train = features([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]], [0, 0, 0, 5, 5, 5])
    test = features([[0.1], [5.1], [0.1], [5.1]], [0, 5, unknown, unknown])
    scores = evaluator.evaluate(evaluation(train, test)).scores
    assert scores.get("knn", scores.get("linear")) == 0.5


def test_k_is_at_most_the_size_of_the_bank() -> None:
    train, test = blobs(8, seed=1, classes=2), blobs(20, seed=2, classes=2)
    protocol = KNN().evaluate(evaluation(train, test)).protocol
    assert protocol["test_accuracies"] == scikit_accuracies(train, test, range(1, 9))
    assert len(protocol["held_out_accuracies"]) == 8 - protocol["held_out"]
    assert protocol["cosine_k"] == 8


def test_two_training_images_are_enough() -> None:
    result = KNN(held_out=0.9).evaluate(
        evaluation(features([[-1.0], [1.0]], [0, 1]), features([[-2.0], [2.0]], [0, 1]))
    )
    assert result.protocol["k"] == 1
    assert result.scores["knn"] == 1.0


def test_a_collapsed_representation_has_a_score() -> None:
    train, test = (Features(torch.zeros_like(f.z), f.labels, {}) for f in (blobs(100, 1), blobs(50, 2)))
    for evaluator in (KNN(), Linear()):
        assert all(0 <= score < 0.5 for score in evaluator.evaluate(evaluation(train, test)).scores.values())


def test_the_protocol_says_how_each_score_was_obtained() -> None:
    evaluator = KNN(neighbours=4, cosine_neighbours=30, temperature=0.1)
    result = evaluator.evaluate(evaluation(blobs(100, seed=1), blobs(50, seed=2), seed=6))
    protocol = json.loads(json.dumps(result.protocol))  # it is written to results.json
    assert protocol.items() >= {"bank": 100, "queries": 50, "dimensions": 6, "distance": "euclidean"}.items()
    assert protocol.items() >= {"held_out": 20, "held_out_seed": 6, "cosine_k": 30, "cosine_temperature": 0.1}.items()
    assert protocol["k"] in range(1, 5)
    assert len(protocol["test_accuracies"]) == len(protocol["held_out_accuracies"]) == 4
    assert "faiss 1." in protocol["search"]
    assert "test set" in protocol["best_on_test"]
    assert "held-out" in protocol["k_chosen_on"]
    assert set(result.scores) == {"knn", "knn-best-on-test", "knn-30-cosine"}
    assert "k between 1 and 4, chosen on 20 held-out training images" in result.summary


# --- linear -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1.0, 0.001])
def test_the_probe_is_scikit_learns(c: float) -> None:
    train, test = blobs(600, seed=1), blobs(300, seed=2)
    direct = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(train.z.numpy(), train.labels)
    result = Linear(c=c).evaluate(evaluation(train, test))
    assert result.scores == {"linear": direct.score(test.z.numpy(), test.labels)}
    assert result.protocol["iterations"] == direct[-1].n_iter_[0]


def test_a_probe_that_does_not_converge_says_so_in_its_result_and_warns_nobody() -> None:
    train, test = blobs(300, seed=1), blobs(100, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [Linear(max_iter=n).evaluate(evaluation(train, test)) for n in (2, 1000)]
    short, full = (result.protocol for result in results)
    assert not short["converged"] and short["warnings"] and short["iterations"] == 2
    assert full["converged"] and not full["warnings"] and full["iterations"] < 1000
    assert ["not converged" in result.summary for result in results] == [True, False]


def test_the_protocol_of_the_probe_is_complete() -> None:
    protocol = Linear(c=0.5).evaluate(evaluation(blobs(100, seed=1), blobs(50, seed=2))).protocol
    assert json.loads(json.dumps(protocol)) == protocol
    assert protocol.items() >= {"trained_on": 100, "tested_on": 50, "dimensions": 6, "classes": 5, "c": 0.5}.items()
    assert protocol.keys() >= {"probe", "tolerance", "max_iter", "iterations", "converged", "warnings"}
    assert "scikit-learn 1." in protocol["probe"]


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evaluator", [KNN(), Linear()], ids=repr)
def test_without_labels_there_is_a_reason_to_skip(evaluator: Evaluator) -> None:
    labelled = blobs(20, seed=1)
    unlabelled = Features(labelled.z, None, {})
    assert evaluator.skip(evaluation(labelled, labelled)) == ""
    for train, test, said in (
        (unlabelled, unlabelled, "the dataset has no labels"),
        (labelled, unlabelled, "the test set has no labels"),
        (unlabelled, labelled, "the training set has no labels"),
    ):
        assert evaluator.skip(evaluation(train, test)) == said


def test_sets_too_small_are_skipped() -> None:
    some, empty = blobs(20, seed=1), blobs(0, seed=1)
    one = features([[0.0], [1.0]], [3, 3])
    for evaluator in (KNN(), Linear()):
        assert "fewer than two classes" in evaluator.skip(evaluation(blobs(1, seed=1), some))
        assert "fewer than two classes" in evaluator.skip(evaluation(one, one))  # any features would score 1
        assert "empty" in evaluator.skip(evaluation(some, empty))


def test_clusters_need_test_labels_alone_and_two_classes() -> None:
    class Clustered:
        def cluster(self, x: Tensor) -> Tensor:
            return x

    labelled, one = blobs(20, seed=1), features([[0.0], [1.0]], [3, 3])
    unlabelled = Features(labelled.z, None, {})
    for train, test, said in (
        (unlabelled, labelled, ""),
        (labelled, unlabelled, "the test set has no labels"),
        (unlabelled, unlabelled, "the dataset has no labels"),
        (labelled, one, "the test set has fewer than two classes"),
    ):
        assert Cluster().skip(attrs.evolve(evaluation(train, test), method=Clustered())) == said


@pytest.mark.parametrize("evaluator", [KNN(), Linear()], ids=repr)
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite_are_an_error_that_names_the_image(
    evaluator: Evaluator, split: str, value: float
) -> None:
    sets = {"train": blobs(50, seed=1), "test": blobs(40, seed=2)}
    sets[split].z[17, 3] = value
    with pytest.raises(DataError, match=f"{split} image 17 is not finite"):
        evaluator.evaluate(evaluation(sets["train"], sets["test"]))


def test_features_whose_squares_leave_float32_are_an_error() -> None:
    train, test = blobs(50, seed=1), blobs(40, seed=2)
    with pytest.raises(DataError, match="image 0 is not finite or beyond"):
        KNN().evaluate(evaluation(Features(train.z * 1e20, train.labels, {}), test))


@pytest.mark.parametrize("evaluator", [KNN(), Linear()], ids=repr)
def test_the_features_and_the_callers_random_state_are_left_alone(evaluator: Evaluator) -> None:
    train, test = blobs(100, seed=1), blobs(50, seed=2)
    kept: list[Tensor] = [train.z.clone(), test.z.clone()]
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    evaluator.evaluate(evaluation(train, test))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert torch.equal(train.z, kept[0]) and torch.equal(test.z, kept[1])


@pytest.mark.parametrize(("name", "value"), [("neighbours", 0), ("held_out", 1.0), ("temperature", 0.0)])
def test_options_have_limits(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        KNN(**{name: value})
