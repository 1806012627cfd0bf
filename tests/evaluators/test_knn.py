"""What kNN promises, held against scikit-learn and against the definitions of papers as plain loops in float64."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from sslx.api import ConfigError, DataError, Evaluation, Evaluator, Features
from sslx.core.options import make, to_dict
from sslx.core.values import Text
from sslx.evaluators.common import draw
from sslx.evaluators.knn import KNN
from sslx.evaluators.search import Distance, Search

CPU = torch.device("cpu")


def evaluation(train: Features, test: Features, seed: int = 0, device: torch.device = CPU) -> Evaluation:
    nothing: Any = None  # kNN looks at features only
    return Evaluation(train, test, method=nothing, data=nothing, views=nothing, device=device, seed=seed, load=nothing)


def blobs(n: int, seed: int, classes: int = 5, dimensions: int = 6, spread: float = 1.0) -> Features:
    """Overlapping Gaussian classes; the same classes for any seed."""
    means = torch.randn(classes, dimensions, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    return Features(means[labels] + spread * torch.randn(n, dimensions, generator=generator), labels, {})


def features(z: list[list[float]], labels: list[int]) -> Features:
    return Features(torch.tensor(z), torch.tensor(labels), {})


# --- the majority vote ------------------------------------------------------------------------------------------------


def scikit_accuracies(train: Features, test: Features, ks: range, metric: Distance = "euclidean") -> list[float]:
    found = []
    for k in ks:
        model = KNeighborsClassifier(k, algorithm="brute", metric=metric).fit(train.z.double().numpy(), train.labels)
        found.append(model.score(test.z.double().numpy(), test.labels))
    return found


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_knn_is_that_of_scikit_learn_for_every_k(distance: Distance) -> None:
    train, test = blobs(700, seed=1), blobs(300, seed=2)
    result = KNN(neighbours=15, distance=distance).evaluate(evaluation(train, test))
    assert result.protocol["test_accuracies"] == scikit_accuracies(train, test, range(1, 16), distance)
    assert result.protocol["distance"] == distance


def test_knn_is_that_of_scikit_learn_over_many_chunks_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslx.evaluators.knn._CHUNK", 64)
    monkeypatch.setattr("sslx.evaluators.search._CHUNK", 48)
    train, test = blobs(400, seed=1), blobs(300, seed=2)
    result = KNN(neighbours=5).evaluate(evaluation(train, test))
    assert result.protocol["test_accuracies"] == scikit_accuracies(train, test, range(1, 6))
    assert result.scores["knn-200-cosine"] == loop_accuracy(train, test, k=200, temperature=0.07)


def test_knn_does_not_suffer_from_an_offset_common_to_all_features(monkeypatch: pytest.MonkeyPatch) -> None:
    # What faiss does for many queries: |q|² + |z|² - 2qz by BLAS. It compares a few by differences, which are exact.
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 1)
    train, test = blobs(500, seed=1), blobs(300, seed=2)
    train, test = (Features(f.z + 1000, f.labels, {}) for f in (train, test))
    result = KNN(neighbours=3).evaluate(evaluation(train, test))
    assert result.protocol["test_accuracies"] == scikit_accuracies(train, test, range(1, 4))


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


def test_ties_go_to_the_lowest_label() -> None:
    train = features([[0.0], [1.0], [100.0], [101.0]], [7, -3, 5, 5])
    test = features([[0.4], [0.6]], [-3, -3])
    assert KNN(neighbours=2).evaluate(evaluation(train, test)).protocol["test_accuracies"] == [0.5, 1.0]


def test_k_is_at_most_the_size_of_the_bank() -> None:
    train, test = blobs(8, seed=1, classes=2), blobs(20, seed=2, classes=2)
    protocol = KNN().evaluate(evaluation(train, test)).protocol
    assert protocol["test_accuracies"] == scikit_accuracies(train, test, range(1, 9))
    assert len(protocol["held_out_accuracies"]) == 8 - protocol["held_out"]
    assert protocol["cosine_accuracies"]["10"] == protocol["cosine_accuracies"]["200"]


def test_two_training_images_are_enough() -> None:
    result = KNN(held_out=0.9).evaluate(
        evaluation(features([[-1.0], [1.0]], [0, 1]), features([[-2.0], [2.0]], [0, 1]))
    )
    assert result.protocol["k"] == 1
    assert result.scores["knn"] == 1.0


def test_the_protocol_says_how_each_score_was_obtained() -> None:
    evaluator = KNN(neighbours=4, cosine_neighbours=30, temperature=0.1)
    result = evaluator.evaluate(evaluation(blobs(100, seed=1), blobs(50, seed=2), seed=6))
    protocol = json.loads(json.dumps(result.protocol))  # it is written to results.json
    assert protocol.items() >= {"bank": 100, "queries": 50, "dimensions": 6, "distance": "euclidean"}.items()
    assert protocol.items() >= {"held_out": 20, "held_out_seed": 6, "cosine_temperature": 0.1}.items()
    assert protocol["k"] in range(1, 5)
    assert list(protocol["cosine_accuracies"]) == ["10", "20", "30"]
    assert len(protocol["test_accuracies"]) == len(protocol["held_out_accuracies"]) == 4
    assert "faiss 1." in protocol["search"]
    assert "test set" in protocol["best_on_test"]
    assert "held-out" in protocol["k_chosen_on"]
    assert set(result.scores) == {"knn", "knn-best-on-test", "knn-30-cosine"}
    assert "k between 1 and 4, chosen on 20 held-out training images" in result.summary


def test_features_whose_squares_leave_float32_are_an_error() -> None:
    train, test = blobs(50, seed=1), blobs(40, seed=2)
    with pytest.raises(DataError, match="image 0 is not finite or beyond"):
        KNN().evaluate(evaluation(Features(train.z * 1e20, train.labels, {}), test))


# --- the weighted vote ------------------------------------------------------------------------------------------------


def cosines(train: Features, test: Features) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of every query with the bank, highest first, and the labels of the bank in this order."""
    assert train.labels is not None
    bank, queries = (f.z.double().numpy() for f in (train, test))
    bank, queries = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (bank, queries))
    similarities = queries @ bank.T
    order = np.argsort(-similarities, axis=1)
    return np.take_along_axis(similarities, order, axis=1), train.labels.numpy()[order]


def loop_accuracy(train: Features, test: Features, k: int, temperature: float, first: int = 1) -> float:
    """The vote of InstDisc and of lightly: each of the k most similar adds exp(cosine / temperature) to its class."""
    assert test.labels is not None
    right = 0
    for similarity, labels, truth in zip(*cosines(train, test), test.labels.tolist(), strict=True):
        votes = Counter[int]()
        for cosine, label in list(zip(similarity, labels.tolist(), strict=True))[:k]:
            votes[label] += math.exp(cosine / temperature)  # type: ignore[assignment]
        right += truth in [label for label, _ in votes.most_common(first)]
    return right / len(test.z)


def dinov3_accuracies(train: Features, test: Features, ks: tuple[int, ...], temperature: float) -> list[float]:
    """The vote of DINOv2 and DINOv3: a softmax over the largest k of all, of which each k sums its first ones."""
    assert train.labels is not None and test.labels is not None
    classes = 1 + int(train.labels.max())
    right = [0] * len(ks)
    for similarity, labels, truth in zip(*cosines(train, test), test.labels.tolist(), strict=True):
        weights = np.exp(similarity[: max(ks)] / temperature)
        weights /= weights.sum()
        for i, k in enumerate(ks):
            probabilities = [weights[:k][labels[:k] == label].sum() for label in range(classes)]
            right[i] += int(np.argmax(probabilities)) == truth
    return [count / len(test.z) for count in right]


@pytest.mark.parametrize(("k", "temperature"), [(200, 0.07), (20, 0.5), (200, 0.1), (200, 0.002)])
def test_the_cosine_vote_is_that_of_a_loop(k: int, temperature: float) -> None:
    train, test = blobs(600, seed=1, spread=1.5), blobs(250, seed=2, spread=1.5)
    result = KNN(cosine_neighbours=k, temperature=temperature).evaluate(evaluation(train, test))
    assert result.scores[f"knn-{k}-cosine"] == loop_accuracy(train, test, k, temperature)


def test_all_k_of_the_weighted_vote_are_those_of_dinov3_from_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    ks = (10, 20, 100, 200)
    train, test = blobs(600, seed=1, classes=12, spread=1.2), blobs(250, seed=2, classes=12, spread=1.2)
    searches = list[int]()
    search = Search.__call__
    monkeypatch.setattr(Search, "__call__", lambda *given: (searches.append(given[3]), search(*given))[1])
    result = KNN(cosine_neighbours=ks).evaluate(evaluation(train, test))
    expected = dinov3_accuracies(train, test, ks, temperature=0.07)
    assert [result.scores[f"knn-{k}-cosine"] for k in ks] == expected
    assert len(set(expected)) > 2  # or this test would not see one k in the place of another
    assert list(result.protocol["cosine_accuracies"].values()) == expected
    assert searches == [15, 15, 200]


def test_the_smaller_k_are_in_the_protocol_and_not_in_the_table() -> None:
    train, test = blobs(600, seed=1, spread=1.5), blobs(250, seed=2, spread=1.5)
    default, listed = (KNN(cosine_neighbours=k).evaluate(evaluation(train, test)) for k in (200, (30, 100)))
    assert list(default.scores) == ["knn", "knn-best-on-test", "knn-200-cosine"]
    assert list(default.protocol["cosine_accuracies"]) == ["10", "20", "100", "200"]
    assert list(listed.scores) == ["knn", "knn-best-on-test", "knn-30-cosine", "knn-100-cosine"]
    assert list(listed.protocol["cosine_accuracies"]) == ["10", "20", "30", "100"]
    for name in ("10", "20", "100"):
        assert listed.protocol["cosine_accuracies"][name] == default.protocol["cosine_accuracies"][name]


def test_without_the_weighted_vote_there_is_no_search_for_it() -> None:
    result = KNN(cosine_neighbours=()).evaluate(evaluation(blobs(60, seed=1), blobs(50, seed=2)))
    assert list(result.scores) == ["knn", "knn-best-on-test"]
    assert not any("cosine" in key for key in result.protocol)


def test_no_temperature_is_too_low() -> None:
    """The limit is the nearest neighbour by cosine."""
    train, test = blobs(600, seed=1), blobs(250, seed=2)
    result = KNN(temperature=1e-6).evaluate(evaluation(train, test))
    assert result.scores["knn-200-cosine"] == loop_accuracy(train, test, k=1, temperature=1.0)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_further_scores_are_those_of_a_loop_and_of_scikit_learn() -> None:
    train, test = blobs(500, seed=1, classes=12, spread=2.0), blobs(300, seed=2, classes=12, spread=2.0)
    assert train.labels is not None and test.labels is not None
    test = Features(test.z[test.labels != 3][:200], test.labels[test.labels != 3][:200], {})  # not all classes
    result = KNN(also=("top-5", "balanced"), cosine_neighbours=(20, 100)).evaluate(evaluation(train, test))
    for k in (20, 100):
        assert result.scores[f"knn-{k}-cosine-top-5"] == loop_accuracy(train, test, k, 0.07, first=5)
    model = KNeighborsClassifier(result.protocol["k"], algorithm="brute").fit(train.z.numpy(), train.labels)
    balanced = balanced_accuracy_score(test.labels, model.predict(test.z.numpy()))
    assert result.scores["knn-balanced"] == pytest.approx(balanced, abs=1e-9)
    assert result.scores["knn-balanced"] != pytest.approx(result.scores["knn"], abs=1e-4)
    assert result.scores.keys() >= {"knn-20-cosine-balanced", "knn-100-cosine-balanced"}


def test_a_class_without_a_vote_is_not_among_the_first_five() -> None:
    train = features([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]], [0, 1, 2])
    test = features([[1.0, 0.1], [0.1, 1.0], [1.0, 0.1]], [1, 1, 9])
    result = KNN(cosine_neighbours=(1, 3), also=("top-5",), neighbours=1).evaluate(evaluation(train, test))
    assert result.scores["knn-1-cosine-top-5"] == pytest.approx(1 / 3)
    assert result.scores["knn-3-cosine-top-5"] == pytest.approx(2 / 3)


# --- few shots --------------------------------------------------------------------------------------------------------


def test_few_shots_are_the_mean_of_balanced_draws() -> None:
    train, test = blobs(400, seed=1, spread=1.5), blobs(200, seed=2, spread=1.5)
    result = KNN(shots=(1, 5), repeats=4, cosine_neighbours=(10, 20)).evaluate(evaluation(train, test))
    names = [f"knn-{k}-cosine-{n}-shot" for n in (1, 5) for k in (10, 20)]
    assert list(result.scores)[4:] == names == list(result.protocol["few_shot"])
    for name in names:
        drawn = result.protocol["few_shot"][name]
        assert len(set(drawn["draws"])) > 1
        assert result.scores[name] == pytest.approx(np.mean(drawn["draws"]))
        assert drawn["standard_error"] == pytest.approx(np.std(drawn["draws"], ddof=1) / 2)
    assert result.scores[names[2]] > result.scores[names[0]]  # five know more than one
    again = KNN(shots=5, repeats=4, cosine_neighbours=20).evaluate(evaluation(train, test))
    assert again.scores[names[3]] == result.scores[names[3]]
    assert "4 balanced draws" in again.summary


def test_a_draw_has_the_same_number_of_each_class_and_a_larger_one_includes_it() -> None:
    labels = torch.tensor([7] * 50 + [-3] * 30 + [2] * 4)
    one, six = (draw(labels, n, seed=0, repeat=0).tolist() for n in (1, 6))
    assert Counter(labels[one].tolist()) == {7: 1, -3: 1, 2: 1}
    assert Counter(labels[six].tolist()) == {7: 6, -3: 6, 2: 4}
    assert len(set(six)) == 16 and set(one) < set(six)


def test_all_shots_are_the_whole_training_set() -> None:
    train, test = blobs(100, seed=1, spread=2.0), blobs(80, seed=2, spread=2.0)
    result = KNN(shots=100, repeats=2, cosine_neighbours=20).evaluate(evaluation(train, test))
    assert result.scores["knn-20-cosine-100-shot"] == result.scores["knn-20-cosine"]
    assert result.protocol["few_shot"]["knn-20-cosine-100-shot"]["standard_error"] == 0


def test_few_shots_need_the_weighted_vote() -> None:
    with pytest.raises(ConfigError, match="shots: they vote by cosine similarity, expected cosine_neighbours"):
        KNN(shots=5, cosine_neighbours=())


# --- the search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distance", "offset"), [("euclidean", 0.0), ("euclidean", 1000.0), ("cosine", 0.0)])
def test_torch_finds_what_faiss_finds(distance: Distance, offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslx.evaluators.search._TILE", 50 * 300)
    made, addmm = list[torch.Tensor](), torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *given, **options: (made.append(addmm(*given, **options)), made[-1])[1])
    z, q = (blobs(n, seed=n).z + offset for n in (300, 333))
    values, positions = Search("torch", CPU)(z, q, 20, distance)
    expected, nearest = Search("faiss", CPU)(z, q, 20, distance)
    assert len(made) == 7 and max(map(torch.numel, made)) <= 50 * 300  # memory is bounded
    assert torch.allclose(values, expected, rtol=1e-4, atol=1e-5)
    assert (positions == nearest).float().mean() > 0.99  # but for ties
    assert positions.dtype == torch.int64 and positions.shape == (333, 20)


def test_scores_are_equal_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = blobs(400, seed=1), blobs(200, seed=2)
    evaluator = KNN(cosine_neighbours=(10, 100), also=("top-5",), shots=3)
    expected = evaluator.evaluate(evaluation(train, test))
    monkeypatch.setattr(Search, "on", lambda device, most: Search("torch", device))
    result = evaluator.evaluate(evaluation(train, test))
    assert result.scores == expected.scores
    assert "faiss" in expected.protocol["search"] and "torch" in result.protocol["search"]


def test_a_gpu_searches_by_faiss_where_faiss_can(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 1)
    monkeypatch.setattr(faiss, "GpuIndexFlat", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    assert Search.on(gpu, most=2048) == Search("faiss", gpu)
    assert Search.on(gpu, most=2049) == Search("torch", gpu)
    assert Search.on(torch.device("mps"), most=10) == Search.on(CPU, most=5000) == Search("faiss", CPU)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert Search.on(gpu, most=10) == Search("torch", gpu)
    monkeypatch.delattr(faiss, "GpuIndexFlat")  # as in faiss-cpu
    assert Search.on(gpu, most=10) == Search("torch", gpu)
    assert str(Search("torch", gpu)) == f"exact, torch {torch.__version__} on cuda:1"


@pytest.mark.skipif(torch.cuda.is_available() or not hasattr(faiss, "GpuIndexFlat"), reason="needs faiss-gpu, no GPU")
def test_the_index_of_a_gpu_is_made_on_the_device_of_the_run() -> None:
    with pytest.raises(RuntimeError, match="Invalid GPU device 3"):
        Search("faiss", torch.device("cuda", 3))(torch.rand(5, 2), torch.rand(4, 2), 1, "euclidean")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("neighbours", [15, 2049])
def test_scores_are_the_same_on_a_gpu(neighbours: int) -> None:
    train, test = blobs(3000, seed=1), blobs(500, seed=2)
    evaluator = KNN(neighbours=neighbours, cosine_neighbours=(10, 200), also=("top-5",), shots=3)
    expected = evaluator.evaluate(evaluation(train, test)).scores
    result = evaluator.evaluate(evaluation(train, test, device=torch.device("cuda")))
    assert result.scores == pytest.approx(expected, abs=1e-4)
    assert "cuda" in result.protocol["search"]


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cosine_neighbours", "shots"])
@pytest.mark.parametrize(
    ("given", "expected"), [(200, 200), (Text("200"), 200), (Text("10,20"), (10, 20)), ([10, 20], (10, 20)), ([], ())]
)
def test_one_number_or_several(name: str, given: Any, expected: Any) -> None:
    table = {"use": "knn", "cosine_neighbours": 5, name: given}
    if name == "cosine_neighbours" or expected:
        assert getattr(make(Evaluator, table), name) == expected


def test_a_config_has_one_number_as_before() -> None:
    assert to_dict(KNN())["cosine_neighbours"] == 200


@pytest.mark.parametrize(("name", "value"), [("neighbours", 0), ("held_out", 1.0), ("temperature", 0.0)])
def test_options_have_limits(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        KNN(**{name: value})
