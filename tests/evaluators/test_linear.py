"""What the linear probe promises, held against scikit-learn and against plain float64."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from sslx.api import ConfigError, Evaluation, Features
from sslx.evaluators import logistic
from sslx.evaluators.common import draw
from sslx.evaluators.linear import Linear


def evaluation(train: Features, test: Features, seed: int = 0) -> Evaluation:
    nothing: Any = None  # this evaluator looks at features only
    return Evaluation(
        train, test, method=nothing, data=nothing, views=nothing, device=torch.device("cpu"), seed=seed, load=nothing
    )


def blobs(n: int, seed: int, classes: int = 5, dimensions: int = 6, spread: float = 1.0) -> Features:
    """Overlapping Gaussian classes of different width in each direction; the same classes for any seed."""
    means = torch.randn(classes, dimensions, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    noise = torch.randn(n, dimensions, generator=generator) * torch.logspace(-1, 1, dimensions)
    return Features(means[labels] + spread * noise, labels, {})


def standardized(train: Features, test: Features) -> tuple[Tensor, Tensor]:
    z = train.z.double()
    mean, scale = z.mean(dim=0), z.std(dim=0, correction=0)
    return (z - mean) / scale, (test.z.double() - mean) / scale


def objective(z: Tensor, labels: Tensor, c: float, w: Tensor, b: Tensor) -> float:
    """C Σ loss + ½‖W‖² in float64. One logit of two classes is that of the second."""
    logits = z.double() @ w.double().T + b.double()
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return float(c * cross_entropy(logits, labels, reduction="sum") + w.double().square().sum() / 2)


def theirs(z: Tensor, labels: Tensor, c: float) -> LogisticRegression:
    """scikit-learn's solution, to far below its default tolerance."""
    return LogisticRegression(C=c, tol=1e-9, max_iter=1000, solver="newton-cholesky").fit(
        z.double().numpy(), labels.numpy()
    )


# --- the solver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "classes", "dimensions"),
    [(400, 10, 20), (300, 2, 5), (60, 3, 100), (200, 4, 1)],
    ids=["ten classes", "two classes", "more dimensions than images", "one dimension"],
)
@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_the_minimum_is_that_of_scikit_learn(n: int, classes: int, dimensions: int, c: float) -> None:
    train = blobs(n, 1, classes, dimensions)
    z, _ = standardized(train, train)
    y = train.labels
    assert y is not None
    ours, other = logistic.fit(z.float(), y, classes, c, tolerance=1e-9), theirs(z, y, c)
    found = objective(z, y, c, ours.weights[:, :-1], ours.weights[:, -1])
    expected = objective(z, y, c, *(torch.from_numpy(w) for w in (other.coef_, other.intercept_)))
    assert ours.converged
    assert found == pytest.approx(expected, rel=1e-6)
    assert logistic.objective(z.float(), y, classes, ours.weights, c) == pytest.approx(found, rel=1e-6)
    assert np.array_equal(logistic.predict(ours.weights, z.float(), classes).numpy(), other.predict(z.numpy()))


def test_many_dimensions_have_part_of_the_curvature_and_the_same_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    train = blobs(300, 1, 5, 40)
    z, _ = standardized(train, train)
    assert train.labels is not None
    expected = logistic.fit(z, train.labels, 5, 1.0, tolerance=1e-12).weights
    monkeypatch.setattr("sslx.evaluators.logistic._WIDE", 10)
    monkeypatch.setattr("sslx.evaluators.logistic._RANK", 8)
    curvature = logistic.Curvature(z)
    assert curvature.basis.shape[1] <= 8
    found = logistic.fit(z, train.labels, 5, 1.0, curvature=curvature, tolerance=1e-12)
    assert found.converged and torch.allclose(found.weights, expected, atol=1e-4)


def test_blocks_of_images_give_the_gradient_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside automatic differentiation in float64."""
    monkeypatch.setattr("sslx.evaluators.logistic._ROWS", 7)
    train = blobs(50, 1, 3, 4)
    assert train.labels is not None
    x, w = train.z.double(), torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    value = cross_entropy(x @ w[:, :-1].T + w[:, -1], train.labels) + 0.3 / 2 * w[:, :-1].square().sum()
    value.backward()
    found, gradient = logistic._objective(x, train.labels, 3, w.detach(), 0.3)
    assert w.grad is not None
    assert found == pytest.approx(value.item(), rel=1e-12)
    assert torch.allclose(gradient, w.grad, rtol=0, atol=1e-12)


def test_the_approximate_hessian_is_exact_where_all_probabilities_are_equal() -> None:
    """Then the Hessian is a Kronecker product, and one step of Newton's method on a quadratic is enough."""
    train = blobs(200, 1, 4, 5)
    z, _ = standardized(train, train)
    n, classes, decay = len(z), 4, 0.1
    p = torch.full((classes, n), 1 / classes, dtype=torch.float64)
    a = p[:, 0].diag() - p[:, :1] @ p[:, :1].T
    hessian = torch.kron(a, z.T @ z / n) + decay * torch.eye(classes * 5, dtype=torch.float64)
    gradient = torch.randn(classes, 6, dtype=torch.float64)
    found = logistic.Curvature(z).inverse(p, decay)(gradient)[:, :-1]
    expected = torch.linalg.solve(hessian, gradient[:, :-1].flatten()).view(classes, 5)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_start_changes_nothing_but_the_number_of_iterations() -> None:
    train = blobs(300, 1, 5, 20)
    z, _ = standardized(train, train)
    assert train.labels is not None
    cold = logistic.fit(z, train.labels, 5, 1.0, tolerance=1e-10)
    near = logistic.fit(z, train.labels, 5, 0.8, tolerance=1e-10)
    warm = logistic.fit(z, train.labels, 5, 1.0, start=near.weights, tolerance=1e-10)
    assert warm.iterations < cold.iterations
    assert torch.allclose(warm.weights, cold.weights, atol=1e-3)


def test_a_thousand_classes() -> None:
    codes = torch.arange(1000)
    x = torch.randn(1000, 20, generator=torch.Generator().manual_seed(0))
    found = logistic.fit(x, codes, 1000, 1000.0, max_iter=3)
    assert (logistic.predict(found.weights, x, 1000) == codes).double().mean() > 0.9


# --- the evaluator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1.0, 0.001])
def test_a_fixed_c_scores_as_scikit_learn(c: float) -> None:
    train, test = blobs(600, seed=1), blobs(300, seed=2)
    z, q = standardized(train, test)
    assert train.labels is not None and test.labels is not None
    result = Linear(c=c).evaluate(evaluation(train, test))
    assert result.scores == {"linear": theirs(z, train.labels, c).score(q.numpy(), test.labels.numpy())}
    assert result.protocol["c"] == c and "held_out" not in result.protocol and "fixed" in result.summary


def test_raw_features_are_penalized_as_they_are() -> None:
    train, test = blobs(600, seed=1), blobs(300, seed=2)
    train, test = (Features(f.z + 30, f.labels, {}) for f in (train, test))
    assert train.labels is not None and test.labels is not None
    expected = theirs(train.z, train.labels, 0.01)
    result = Linear(c=0.01, standardize=False, tolerance=1e-9).evaluate(evaluation(train, test))
    assert result.scores["linear"] == expected.score(test.z.double().numpy(), test.labels.numpy())
    coefficients = (torch.from_numpy(w) for w in (expected.coef_, expected.intercept_))
    assert result.protocol["objective"] == pytest.approx(objective(train.z, train.labels, 0.01, *coefficients), 1e-6)
    assert result.protocol["features"] == "centred"


def noisy(n: int, seed: int, dimensions: int = 150) -> Features:
    """Classes that few of many dimensions tell apart: a weak penalty learns the others by heart."""
    labels = torch.arange(n) % 3
    z = torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed))
    return Features(z + 1.5 * one_hot(labels, dimensions), labels, {})


def test_c_is_the_best_on_the_held_out_part_and_the_test_labels_have_no_say() -> None:
    train, test = noisy(300, 1), noisy(300, 2)
    result = Linear(c=(10.0, 1e-4, 0.01)).evaluate(evaluation(train, test))
    tried = result.protocol["candidates"]
    assert [each["c"] for each in tried] == sorted(each["c"] for each in tried)
    best = max(tried, key=lambda each: each["held_out_accuracy"])
    assert result.protocol["c"] == best["c"]
    assert result.protocol["held_out"] == 60 and "chosen on 60 held-out" in result.summary
    assert test.labels is not None
    other = Linear(c=(10.0, 1e-4, 0.01)).evaluate(evaluation(train, Features(test.z, test.labels.flip(0), {})))
    assert other.protocol == result.protocol
    alone = Linear(c=best["c"]).evaluate(evaluation(train, test))
    assert alone.scores["linear"] == pytest.approx(result.scores["linear"], abs=1 / 300)


def test_held_out_accuracies_are_those_of_scikit_learn_on_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    rests = list[tuple[Tensor, Tensor]]()
    fit = logistic.fit

    def watched(x: Tensor, codes: Tensor, *args: Any, **options: Any) -> logistic.Fit:
        rests.append((x, codes))
        return fit(x, codes, *args, **options)

    monkeypatch.setattr(logistic, "fit", watched)
    train = noisy(300, 1)
    protocol = Linear(c=(0.001, 0.1), search=1e-9).evaluate(evaluation(train, noisy(50, 2))).protocol
    (x, codes), (all_x, all_codes) = rests[0], rests[-1]
    assert len(x) == 240 and len(all_x) == 300
    held = ~(all_x[:, None] == x).all(dim=2).any(dim=1)
    for each in protocol["candidates"]:
        expected = theirs(x, codes, each["c"]).score(all_x[held].double().numpy(), all_codes[held].numpy())
        assert each["held_out_accuracy"] == expected


def test_the_search_ends_when_the_held_out_accuracy_has_clearly_fallen() -> None:
    train, test = noisy(2000, 1, 400), noisy(50, 2, 400)
    path = (0.001, 0.01, 100.0, 1000.0, 10_000.0)
    tried = Linear(c=path).evaluate(evaluation(train, test)).protocol["candidates"]
    accuracies = [each["held_out_accuracy"] for each in tried]
    assert 2 < len(tried) < len(path)
    assert accuracies[-1] == min(accuracies) and max(accuracies) - accuracies[-1] > 0.05


def test_each_class_keeps_an_image_that_is_not_held_out() -> None:
    z = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.cat([torch.zeros(18, dtype=torch.int64), torch.arange(12)])  # eleven classes with one image
    train = Features(z, labels, {})
    result = Linear(held_out=0.9, c=(0.1, 1.0)).evaluate(evaluation(train, train))
    assert result.protocol["held_out"] == 18  # of class 0, which has 19
    single = Features(z[:11], torch.arange(11), {})
    result = Linear(c=(0.02, 0.5, 10.0)).evaluate(evaluation(single, single))
    assert result.protocol["held_out"] == 0 and result.protocol["c"] == 0.5  # nearest to scikit-learn's 1
    assert result.scores["linear"] > 0.9


def test_the_best_on_test_is_there_if_asked_for_and_called_so() -> None:
    train, test = noisy(150, 1), noisy(300, 2)
    z, q = standardized(train, test)
    assert train.labels is not None and test.labels is not None
    path = (0.001, 10.0)
    result = Linear(c=path, best_on_test=True).evaluate(evaluation(train, test))
    expected = [theirs(z, train.labels, c).score(q.numpy(), test.labels.numpy()) for c in path]
    assert list(result.protocol["test_accuracies"].values()) == pytest.approx(expected, abs=1 / 300)
    assert list(result.scores) == ["linear", "linear-best-on-test"]
    assert result.scores["linear-best-on-test"] == max(result.protocol["test_accuracies"].values())
    assert "optimistic" in result.summary


def test_few_images_are_balanced_draws_that_depend_on_the_seed_alone() -> None:
    labels = torch.cat([torch.full((50,), -3), torch.full((20,), 7), torch.full((2,), 2**40)])
    for amount, counts in ((5, [5, 5, 2]), (0.1, [5, 2, 1]), (1, [1, 1, 1])):
        few = draw(labels, amount, seed=0, repeat=0)
        assert len(few.unique()) == len(few)
        assert labels[few].unique(return_counts=True)[1].tolist() == counts
        assert torch.equal(few, draw(labels, amount, seed=0, repeat=0))
    assert set(draw(labels, 1, 0, 0).tolist()) < set(draw(labels, 5, 0, 0).tolist())
    assert not torch.equal(draw(labels, 5, 0, 0), draw(labels, 5, 0, 1))
    assert not torch.equal(draw(labels, 5, 0, 0), draw(labels, 5, 1, 0))


def test_few_shots_are_the_mean_over_draws() -> None:
    train, test = noisy(300, 1), noisy(200, 2)
    options = {"c": (0.01, 0.1), "repeats": 2}
    result = Linear(shots=(1, 20), fraction=0.5, **options).evaluate(evaluation(train, test))
    assert list(result.scores) == ["linear", "linear-1-shot", "linear-20-shot", "linear-50-percent"]
    facts = result.protocol["linear-20-shot"]
    assert facts["trained_on"] == 60 and result.protocol["linear-50-percent"]["trained_on"] == 150
    assert result.scores["linear-20-shot"] == pytest.approx(sum(facts["draws"]) / 2)
    assert facts["standard_error"] == pytest.approx(np.std(facts["draws"], ddof=1) / math.sqrt(2))
    assert train.labels is not None
    few = draw(train.labels, 20, seed=0, repeat=1)
    alone = Linear(**options).evaluate(evaluation(Features(train.z[few], train.labels[few], {}), test))
    assert facts["draws"][1] == alone.scores["linear"]


def test_constant_dimensions_say_nothing() -> None:
    train, test = blobs(200, seed=1), blobs(100, seed=2)
    expected = Linear(c=1.0).evaluate(evaluation(train, test)).scores
    wider = [Features(torch.cat([f.z, torch.full((len(f.z), 2), 1e6 / 3)], 1), f.labels, {}) for f in (train, test)]
    assert Linear(c=1.0).evaluate(evaluation(*wider)).scores == expected


def test_a_probe_that_does_not_converge_says_so() -> None:
    train, test = blobs(300, seed=1), blobs(100, seed=2)
    short, full = (Linear(c=1.0, max_iter=n).evaluate(evaluation(train, test)) for n in (2, 1000))
    assert not short.protocol["converged"] and short.protocol["iterations"] == 2
    assert full.protocol["converged"] and full.protocol["iterations"] < 1000
    assert ["not converged" in result.summary for result in (short, full)] == [True, False]


def test_the_protocol_of_the_probe_is_complete() -> None:
    protocol = Linear().evaluate(evaluation(blobs(100, seed=1), blobs(50, seed=2), seed=6)).protocol
    assert json.loads(json.dumps(protocol)) == protocol
    assert protocol.items() >= {"trained_on": 100, "tested_on": 50, "dimensions": 6, "classes": 5}.items()
    assert protocol.items() >= {"held_out": 20, "held_out_seed": 6, "features": "standardized"}.items()
    assert protocol.keys() >= {"probe", "tolerance", "max_iter", "c", "iterations", "converged", "candidates"}


@pytest.mark.parametrize(
    "options", [{"c": 0.0}, {"c": ()}, {"c": (1.0, -1.0)}, {"held_out": 1.0}, {"fraction": 1.0}, {"shots": 0}]
)
def test_options_have_limits(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Linear(**options)
