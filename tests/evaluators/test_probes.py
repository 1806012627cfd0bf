"""What the evaluators beside kNN and the linear probe promise, held against loops and against what is known."""

from __future__ import annotations

import itertools
import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sslx.api import Evaluator, Method, Result, Split, Terms, Use, ViewPolicy, Views, permutation
from sslx.core import signals
from sslx.core.errors import Interrupted
from sslx.core.training.config import configure
from sslx.core.training.evaluation import evaluate
from sslx.evaluators.agreement import agreement, matched
from sslx.evaluators.cluster import Cluster
from sslx.evaluators.common import network
from sslx.evaluators.finetune import Finetune
from sslx.evaluators.geometry import Geometry, rankme, uniformity
from sslx.evaluators.gmm import Mixture
from sslx.evaluators.linear import Linear
from sslx.evaluators.mlp import MLP
from sslx.evaluators.probe import Probe
from sslx.evaluators.reconstruction import Reconstruction
from sslx.evaluators.style import Style

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")


class Pixels(Method):
    """The representation is the image."""

    def forward(self, views: Views) -> Terms:
        return Terms()

    def represent(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Shift(ViewPolicy):
    """The j-th view is the image plus j."""

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        shift = torch.arange(self.count)[None, :, None, None, None]
        return Views(x=images[:, None] + shift, original=images, index=index)


def points(z: Tensor, labels: Tensor | None = None, **factors: Tensor) -> Split:
    """(n, D) features as images of D channels and one pixel, which `Pixels` gives back."""
    return Split(z.float()[:, :, None, None], labels, factors)


def blobs(n: int, seed: int, classes: int = 4, dimensions: int = 5, spread: float = 0.1) -> Split:
    generator = torch.Generator().manual_seed(seed)
    means = 3 * torch.eye(classes, dimensions)
    labels = torch.randint(classes, (n,), generator=generator)
    return points(means[labels] + spread * torch.randn(n, dimensions, generator=generator), labels)


def noise(n: int, seed: int, classes: int = 4, dimensions: int = 5) -> Split:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    factors = {"x": torch.rand(n, generator=generator), "kind": torch.randint(2, (n,), generator=generator)}
    return points(torch.randn(n, dimensions, generator=generator), labels, **factors)


def results(evaluators: dict[str, Evaluator], train: Split, test: Split, method: Any = None, seed: int = 0) -> Any:
    return evaluate(evaluators, method or Pixels(), (train, test), Shift(), CPU, seed, lambda dataset: (train, test))


def score(evaluator: Evaluator, train: Split, test: Split, method: Any = None, seed: int = 0) -> Any:
    """The scores, by way of the function that runs evaluate with."""
    report = results({"it": evaluator}, train, test, method, seed)["it"]
    assert "scores" in report, report
    json.dumps(report)
    assert report["summary"] and report["protocol"] and "\n" not in report["summary"]
    return report["scores"]


def quick() -> dict[str, Evaluator]:
    """All evaluators, made fast."""
    names = ["knn", "linear", "mlp", "gmm", "cluster", "style", "reconstruction", "geometry"]
    few = {"steps": 300}
    options = {"mlp": few, "style": few, "reconstruction": {"steps": 50, "decoder": {"hidden": [16]}}}
    return configure({"method": "random", "evaluators": options}, evaluators=names).evaluators


# --- MLP --------------------------------------------------------------------------------------------------------------


def corners(n: int, seed: int) -> Split:
    """Exclusive or: no hyperplane tells the classes apart."""
    z = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return points(z, (z[:, 0] * z[:, 1] > 0).long())


def test_the_mlp_probe_finds_what_no_hyperplane_does() -> None:
    report = results(
        {"mlp": MLP(hidden=16, steps=1000, tuned=()), "linear": quick()["linear"]}, corners(1000, 1), corners(500, 2)
    )
    assert report["mlp"]["scores"]["mlp"] > 0.95
    assert report["linear"]["scores"]["linear"] < 0.65


def test_the_hidden_layer_is_as_wide_as_the_representation_by_default() -> None:
    for options, width in (({}, 5), ({"hidden": 7}, 7)):
        report = results({"mlp": MLP(steps=1, **options)}, blobs(50, 1), blobs(50, 2))["mlp"]
        assert report["protocol"]["hidden"] == width and f"{width} hidden units" in report["summary"]


def test_the_tuned_probe_is_the_one_of_smallest_held_out_loss() -> None:
    # Labels that are mostly noise, and a wide layer: without weight decay it learns them by heart.
    train, test = noise(200, 1, classes=2, dimensions=20), noise(500, 2, classes=2, dimensions=20)
    report = results({"mlp": MLP(hidden=200, tuned=(1.0, 30.0), steps=500)}, train, test)["mlp"]
    probes = report["protocol"]["probes"]
    assert list(probes) == ["0", "1", "30"]
    losses = {float(decay): found["held_out"]["loss"] for decay, found in probes.items()}
    chosen = report["protocol"]["weight_decay_chosen"]
    assert losses[chosen] == min(losses.values()) and len(set(losses.values())) == 3
    assert report["scores"]["mlp-tuned"] == probes[f"{chosen:g}"]["test"]
    assert report["scores"]["mlp"] == probes["0"]["test"]


def test_the_weights_that_are_best_on_the_held_out_tenth_are_kept() -> None:
    """Random labels: the more is learned of them, the worse it gets on others."""
    half = noise(300, 1, classes=2)
    z, labels = half.images.flatten(1), half.labels
    assert labels is not None
    torch.manual_seed(0)
    model = network(5, 100, 2)
    given: Any = SimpleNamespace(seed=4, heed=lambda: None)
    found = MLP(steps=3000, batch_size=64, lr=0.01).fit(given, model, z, labels, cross_entropy)
    held_out, rest = permutation(300, Use.EVALUATION, 4).tensor_split([30])
    on_held_out, on_rest = (float(cross_entropy(model(z[i]), labels[i]).detach()) for i in (held_out, rest))
    assert on_held_out == pytest.approx(found.loss, abs=1e-5)
    assert found.step < 1500 and on_rest > 0.5  # and not what is left when these labels are known by heart


def test_the_test_labels_have_no_say_in_training() -> None:
    train, test = noise(200, 1), noise(100, 2)
    other = Split(test.images, test.labels.flip(0), test.factors)  # type: ignore[union-attr]
    held_out = [
        [
            probe["held_out"]
            for probe in results({"mlp": MLP(steps=500)}, train, half)["mlp"]["protocol"]["probes"].values()
        ]
        for half in (test, other)
    ]
    assert held_out[0] == held_out[1]


def test_results_depend_on_the_seed_alone() -> None:
    """Neither on the evaluators before, nor on the caller's random state, which is left alone."""
    train, test = noise(200, 1), noise(100, 2)
    evaluators = quick()
    everything = results(evaluators, train, test)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    for name in ("mlp", "gmm", "style", "reconstruction"):
        assert results({name: evaluators[name]}, train, test)[name] == everything[name]
    assert torch.equal(state, torch.get_rng_state())
    assert results({"mlp": evaluators["mlp"]}, train, test, seed=1)["mlp"] != everything["mlp"]


def test_labels_may_be_any_integers_and_an_unknown_class_is_wrong() -> None:
    train, test = blobs(300, 1), blobs(100, 2)
    assert train.labels is not None and test.labels is not None
    names = torch.tensor([-7, 3, 1000, 2**40])
    unknown = names[test.labels].clone()
    unknown[:20] = 55
    named = points(train.images.flatten(1), names[train.labels]), points(test.images.flatten(1), unknown)
    assert score(MLP(steps=500), *named)["mlp"] == 0.8
    assert score(Mixture(), *named)["gmm"] == pytest.approx(0.8, abs=0.05)  # a component may be matched with it


# --- clusters ---------------------------------------------------------------------------------------------------------


def pair_counting(a: list[int], b: list[int]) -> float:
    """Adjusted Rand index (Hubert & Arabie 1985), from all pairs of images."""
    both = first = second = 0
    pairs = list(itertools.combinations(range(len(a)), 2))
    for i, j in pairs:
        both += a[i] == a[j] and b[i] == b[j]
        first += a[i] == a[j]
        second += b[i] == b[j]
    expected = first * second / len(pairs)
    return (both - expected) / ((first + second) / 2 - expected)


def mutual_information(a: list[int], b: list[int]) -> float:
    """I(A; B) over the mean of H(A) and H(B)."""

    def entropy(values: list[Any]) -> float:
        return -sum((p := values.count(v) / len(values)) * math.log(p) for v in set(values))

    joint = entropy(list(zip(a, b, strict=True)))
    return (entropy(a) + entropy(b) - joint) / ((entropy(a) + entropy(b)) / 2)


@pytest.mark.parametrize(("clusters", "classes"), [(4, 4), (3, 5), (5, 3)])
def test_agreement_is_that_of_a_loop_over_all_matchings_and_pairs(clusters: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(clusters)
    b = torch.randint(classes, (60,), generator=generator)
    a = torch.where(
        torch.rand(60, generator=generator) < 0.5, b % clusters, torch.randint(clusters, (60,), generator=generator)
    )
    best, longer = 0, max(clusters, classes)
    for names in itertools.permutations(range(longer)):
        best = max(best, sum(names[i] == j for i, j in zip(a.tolist(), b.tolist(), strict=True)))
    found = agreement(a, b, seed=0)
    assert found["matched"] == matched(b.numpy(), a.numpy()) == best / 60
    assert found["nmi"] == pytest.approx(mutual_information(a.tolist(), b.tolist()), abs=1e-12)
    assert found["ari"] == pytest.approx(pair_counting(a.tolist(), b.tolist()), abs=1e-12)
    assert found["nmi-per-64"] == found["nmi"]  # one batch, smaller than 64


def test_per_batch_values_are_means_over_whole_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(5, (150,), generator=generator) for _ in range(2))
    order = permutation(len(a), Use.EVALUATION, 0, 1)
    expected = [mutual_information(a[part].tolist(), b[part].tolist()) for part in order.split(64)[:2]]
    assert agreement(a, b, seed=0)["nmi-per-64"] == pytest.approx(sum(expected) / 2, abs=1e-12)


def test_chance_of_64_images_in_ten_classes_is_what_simulation_says() -> None:
    """0.311 of NMI and 0.29 of accuracy, while the full set knows that there is nothing."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(10, (6400,), generator=generator) for _ in range(2))
    found = agreement(a, b, seed=0)
    for suffix in ("", "-chance"):
        assert found[f"nmi-per-64{suffix}"] == pytest.approx(0.311, abs=0.01)
        assert found[f"matched-per-64{suffix}"] == pytest.approx(0.29, abs=0.01)
        assert found[f"ari-per-64{suffix}"] == pytest.approx(0.0, abs=0.01)
    assert found["nmi"] < 0.005 and abs(found["ari"]) < 0.005
    perfect = agreement(b, b, seed=0)
    assert perfect["nmi-per-64"] == 1.0 and perfect["nmi-per-64-chance"] == pytest.approx(0.311, abs=0.01)
    assert agreement(b, b, seed=0) == perfect != agreement(b, b, seed=1)


def test_the_mixture_has_full_covariances() -> None:
    """A cross of two long ridges: spheres would cut it into quarters."""

    def cross(n: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(n) % 2
        z = torch.randn(n, 2, generator=generator) * torch.tensor([10, 0.1])
        return points(torch.where(labels[:, None] == 0, z, z.flip(1)), labels)

    scores = score(Mixture(restarts=1), cross(1000, 1), cross(500, 2))
    assert scores["gmm"] > 0.95 and scores["gmm-nmi"] > 0.8 and scores["gmm-ari"] > 0.8


class Sorting(Pixels):
    """Knows four clusters, the classes of `blobs` under other names."""

    def cluster(self, x: Tensor) -> Tensor:
        return torch.roll(x.flatten(1)[:, :4], 1, dims=1).log_softmax(dim=1)


def test_own_clusters_are_scored_with_and_without_matching() -> None:
    scores = score(Cluster(), blobs(10, 1), blobs(3000, 2), Sorting())
    assert [scores[f"cluster{name}"] for name in ("", "-nmi", "-ari")] == pytest.approx([1.0] * 3, abs=1e-12)
    assert scores["cluster-unmatched"] == 0.0


def test_own_clusters_that_are_not_a_number_are_one_line() -> None:
    test = blobs(50, 2)
    test.images[13] = math.nan

    class Fine(Sorting):
        def represent(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 2)

    report = results({"cluster": Cluster()}, blobs(10, 1), test, Fine())["cluster"]
    assert report["failed"] == "DataError: the clusters of test image 13 are not a number"


# --- style ------------------------------------------------------------------------------------------------------------


def styled(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 3, generator=generator)
    return points(
        z,
        linear=3 * z[:, 0] - z[:, 1] + 100,
        square=z[:, 2] ** 2,
        unknown=torch.rand(n, generator=generator),
        sign=(z[:, 1] > 0).long(),
        corner=(z[:, 0] * z[:, 1] > 0).long() * 7 - 3,
        rare=(torch.rand(n, generator=generator) < 0.1).long(),
        constant=torch.zeros(n),
    )


def test_style_is_read_as_far_as_the_representation_knows_it() -> None:
    train, test = styled(2000, 1), styled(1000, 2)
    report = results({"style": Style(steps=1500)}, train, test)["style"]
    scores = report["scores"]
    assert scores["style-linear"] > 0.99 and scores["style-linear-linear"] > 0.999
    assert scores["style-square"] > 0.9 and scores["style-square-linear"] == pytest.approx(0, abs=0.05)
    assert scores["style-unknown"] == pytest.approx(0, abs=0.05)
    assert scores["style-sign"] > 0.97 and scores["style-sign-linear"] > 0.97
    assert scores["style-corner"] > 0.95 and scores["style-corner-linear"] < 0.65
    majority = report["protocol"]["factors"]["rare"]["majority"]
    assert majority == float((test.factors["rare"] == 0).double().mean()) and 0.85 < majority < 0.95
    assert scores["style-rare"] == pytest.approx(majority, abs=0.02)
    assert "style-constant" not in scores
    means = {"r2": ("linear", "square", "unknown"), "accuracy": ("sign", "corner", "rare")}
    for kind, names in means.items():
        assert scores[f"style-{kind}"] == pytest.approx(sum(scores[f"style-{name}"] for name in names) / 3)
    assert next(iter(scores)) == "style-r2"


def test_r_squared_is_one_minus_the_error_over_the_variance_of_the_test_set() -> None:
    train, test = styled(300, 1), styled(100, 2)
    z = train.images.flatten(1).double()
    design = torch.cat([z, torch.ones(300, 1)], dim=1)
    weights = torch.linalg.lstsq(design, train.factors["square"].double()[:, None]).solution
    truth = test.factors["square"].double()
    predicted = (torch.cat([test.images.flatten(1).double(), torch.ones(100, 1)], dim=1) @ weights).squeeze(1)
    expected = 1 - float((truth - predicted).square().sum() / (truth - truth.mean()).square().sum())
    assert score(Style(steps=1), train, test)["style-square-linear"] == pytest.approx(expected, abs=1e-6)


# --- reconstruction ---------------------------------------------------------------------------------------------------


def images(n: int, seed: int) -> Split:
    return Split(torch.randint(256, (n, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)))


class Darker(Pixels):
    def reconstruct(self, x: Tensor) -> Tensor:
        return x - 0.5


def test_a_method_that_reconstructs_does_it_itself() -> None:
    report = results({"it": Reconstruction()}, images(20, 1), images(3000, 2), Darker())["it"]
    assert report["scores"]["reconstruction"] == pytest.approx(0.25, abs=1e-6)
    assert "own decoder" in report["summary"] and report["protocol"]["decoder"] == "the method's own decoder"


@pytest.mark.parametrize("method", [Pixels(), Darker()], ids=["none", "own=false"])
def test_for_all_others_a_decoder_is_trained_on_the_frozen_features(method: Method) -> None:
    evaluator = Reconstruction(own=False, decoder={"use": "mlp", "hidden": [64]}, steps=800)  # type: ignore[arg-type]
    report = results({"it": evaluator}, images(1000, 1), images(300, 2), method)["it"]
    mean = report["protocol"]["of_the_mean_image"]
    assert mean == pytest.approx(1 / 12, abs=0.01)  # the variance of uniform pixels
    assert report["scores"]["reconstruction"] < 0.1 * mean
    assert "trained afterwards" in report["summary"]


def test_features_that_know_nothing_give_the_mean_image() -> None:
    class Blind(Pixels):
        def represent(self, x: Tensor) -> Tensor:
            return torch.ones(len(x), 3)

    evaluator = Reconstruction(decoder={"use": "mlp", "hidden": [16]}, steps=800)  # type: ignore[arg-type]
    report = results({"it": evaluator}, images(1000, 1), images(300, 2), Blind())["it"]
    assert report["scores"]["reconstruction"] == pytest.approx(report["protocol"]["of_the_mean_image"], rel=0.03)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_rankme_counts_the_dimensions_in_use() -> None:
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(50, 8, dtype=torch.float64, generator=generator))
    assert rankme(basis) == pytest.approx(8, abs=1e-4)
    assert rankme(basis[:, :3] @ torch.randn(3, 8, dtype=torch.float64, generator=generator)) < 3 + 1e-4
    sigma = [4.0, 2.0, 1.0, 1.0]
    expected = math.exp(-sum(s / 8 * math.log(s / 8) for s in sigma))
    assert rankme(basis[:, :4] * torch.tensor(sigma, dtype=torch.float64)) == pytest.approx(expected, abs=1e-4)
    assert rankme(torch.ones(20, 8).double()) == pytest.approx(1, abs=1e-4)
    assert rankme(torch.zeros(20, 8).double()) == pytest.approx(1, abs=1e-4)


def test_alignment_and_uniformity_are_those_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslx.evaluators.geometry._CHUNK", 16)
    test = noise(40, 1)
    scores = score(Geometry(), noise(10, 2), test)
    z = test.images.flatten(1).double()

    def unit(v: Tensor) -> Tensor:
        return v / v.square().sum().sqrt()

    aligned = [float((unit(v) - unit(v + 1)).square().sum()) for v in z]
    assert scores["alignment"] == pytest.approx(sum(aligned) / 40, abs=1e-9)
    pairs = [math.exp(-2 * float((unit(a) - unit(b)).square().sum())) for a, b in itertools.combinations(z, 2)]
    assert scores["uniformity"] == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-9)
    assert uniformity(torch.ones(1, 3).double()) == 0.0


def test_dead_dimensions_are_counted() -> None:
    test = noise(500, 1, dimensions=6)
    test.images[:, 1] = 3.0
    test.images[:, 4] *= 0.05  # a 400th of the variance
    scores = score(Geometry(), noise(10, 2, dimensions=6), test)
    assert scores["dead"] == pytest.approx(2 / 6) and scores["variance-min"] == 0.0
    assert score(Geometry(dead=0.001), noise(10, 2, dimensions=6), test)["dead"] == pytest.approx(1 / 6)


@pytest.mark.parametrize("offset", [0.0, 5.0, 1000.0])
def test_collapse_raises_every_alarm(offset: float) -> None:
    rounding = 1e-7 * torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    scores = score(Geometry(), blobs(10, 1), points(offset * (1 + rounding)))
    assert scores["rankme"] == pytest.approx(1, abs=1e-3) and scores["dead"] == 1.0
    assert scores["uniformity"] == pytest.approx(0, abs=1e-6) and scores["variance-min"] < 1e-6


# --- all of them ------------------------------------------------------------------------------------------------------


def test_perfect_features_score_best_and_noise_scores_chance() -> None:
    evaluators = {"mlp": MLP(steps=1000), "gmm": Mixture()}
    best = results(evaluators, blobs(500, 1), blobs(300, 2))
    assert {best[name]["scores"][score] for name, score in (("mlp", "mlp"), ("mlp", "mlp-tuned"), ("gmm", "gmm"))} == {
        1
    }
    chance = results(evaluators, noise(1000, 1), noise(1000, 2))
    tolerance = 4 * math.sqrt(0.25 * 0.75 / 1000)  # four standard deviations of a binomial: 0.055
    assert chance["mlp"]["scores"]["mlp"] == pytest.approx(0.25, abs=tolerance)
    assert chance["mlp"]["scores"]["mlp-tuned"] == pytest.approx(0.25, abs=tolerance)
    # The best of 24 matchings is above one drawn blindly, but little.
    assert 0.25 <= chance["gmm"]["scores"]["gmm"] < 0.25 + tolerance and chance["gmm"]["scores"]["gmm-nmi"] < 0.01


def test_constant_features_have_finite_scores() -> None:
    class Constant(Sorting):
        def represent(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 4), 2.5)

    report = results(quick(), noise(200, 1), noise(100, 2), Constant())
    assert all(math.isfinite(value) for result in report.values() for value in result["scores"].values())
    assert report["mlp"]["scores"]["mlp"] < 0.45 and report["gmm"]["scores"]["gmm"] < 0.45


@pytest.mark.parametrize("split", ["train", "test"])
def test_features_that_are_not_finite_are_one_line_each(split: str) -> None:
    sets = {"train": noise(100, 1), "test": noise(50, 2)}
    sets[split].images[17, 2] = math.nan
    for name, result in results(quick(), sets["train"], sets["test"]).items():
        if name != "cluster":  # skipped
            assert result["failed"].startswith(f"DataError: the representation of {split} image 17 is not finite"), name
            assert "\n" not in result["failed"]


class Broken(Evaluator):
    """Breaks."""

    def evaluate(self, evaluation: Any) -> Result:
        raise RuntimeError("broken")


class BrokenSkip(Broken):
    """Breaks earlier."""

    def skip(self, evaluation: Any) -> str:
        raise RuntimeError("broken")


def test_a_broken_evaluator_does_not_stop_the_others() -> None:
    evaluators = {"broken": Broken(), "skip": BrokenSkip(), "geometry": Geometry()}
    report = results(evaluators, noise(20, 1), noise(20, 2))
    assert report["broken"]["failed"] == report["skip"]["failed"] == "RuntimeError: broken"
    assert report["geometry"]["scores"]


def test_evaluation_stops_between_evaluators(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Broken):
        """Is interrupted."""

        def evaluate(self, evaluation: Any) -> Result:
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
            return Result({"a": 1.0}, {}, "")

    with pytest.raises(Interrupted, match="SIGTERM"):
        results({"stop": Stop(), "geometry": Geometry()}, noise(20, 1), noise(20, 2))


@pytest.mark.parametrize(
    ("evaluator", "times"),
    [
        (Probe(epochs=4), 4),
        (Finetune(epochs=3), 3),
        (Linear(shots=(5,), repeats=2), 20),  # at least: before each iteration
        (Mixture(restarts=3), 3),
        (MLP(steps=1, tuned=(0.1,)), 4),  # before and after the step, with and without weight decay
    ],
)
def test_what_trains_hears_signals(evaluator: Evaluator, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(Broken):
        """Counts how often an evaluator heeds signals, and is then interrupted."""

        def evaluate(self, evaluation: Any) -> Result:
            heard: list[None] = []
            evaluator.evaluate(attrs.evolve(evaluation, heed=lambda: heard.append(None)))
            assert len(heard) == times or (isinstance(evaluator, Linear) and len(heard) > times)
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
            evaluation.heed()
            raise AssertionError("heed says nothing")

    with pytest.raises(Interrupted, match="stopped by SIGTERM before the evaluation was done"):
        results({"it": Counted()}, noise(60, 1), noise(20, 2))


def test_eval_all_runs_every_installed_evaluator(command: Command, tiny_run: Any, tmp_path: Path) -> None:
    run = tiny_run("simvae", "run")
    few = ["--set", "mlp.steps=100", "--set", "gmm.restarts=1"]
    code, out, err = command("eval", "run", "--evaluators", "all", *few)
    assert code == 0, err
    for line in ("cluster: skipped, the method has no clusters of its own", "style: skipped, the dataset has no known"):
        assert line in out
    from sslx.plugins.registry import registry

    report = run.results["trained"]
    assert set(report) == set(registry().providers("evaluator"))
    assert {name for name, result in report.items() if "scores" not in result} == {"cluster", "fid", "ood", "style"}
    assert report["mlp"]["options"]["steps"] == 100
