"""What kNN and the linear probe promise, held against scikit-learn and plain numpy."""

from __future__ import annotations

import math
import random
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from sslx.api import DataError, Evaluation, Evaluator, Features
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


# --- kNN and the linear probe -----------------------------------------------------------------------------------------


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


def test_a_collapsed_representation_has_a_score() -> None:
    train, test = (Features(torch.zeros_like(f.z), f.labels, {}) for f in (blobs(100, 1), blobs(50, 2)))
    for evaluator in (KNN(), Linear()):
        assert all(0 <= score < 0.5 for score in evaluator.evaluate(evaluation(train, test)).scores.values())


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
