"""Clusters and densities of an embedding, several other datasets, raw mixtures, content and style."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from test_probes import CPU, Pixels, Shift, blobs, noise, points, results, score
from torch import Tensor

from sslx.api import ConfigError, Dataset, Split, Use, option, seed_of
from sslx.core.options import make, to_dict
from sslx.core.training.evaluation import evaluate
from sslx.data_loaders.datasets.celeba import _HAIR, CelebA
from sslx.evaluators.cluster import Cluster
from sslx.evaluators.gmm import Mixture
from sslx.evaluators.linear import Linear
from sslx.evaluators.ood import OOD
from sslx.evaluators.style import Style


class Embedded(Pixels):
    """A representation, and a nonlinear embedding of three dimensions, but no clusters and no density."""

    def representations(self) -> Any:
        return {"latent": self.represent, "embedding": self.embed}

    def embed(self, x: Tensor) -> Tensor:
        z = x.flatten(1)
        return torch.stack([z[:, 0], z[:, 1] ** 2, z[:, 2].sin()], dim=1)


# --- clusters ---------------------------------------------------------------------------------------------------------


def test_the_largest_component_of_an_embedding_is_a_cluster_only_if_told() -> None:
    test = blobs(300, 1, classes=3)
    assert (
        results({"it": Cluster()}, test, test, Embedded())["it"]["skipped"] == "the method has no clusters of its own"
    )
    report = results({"it": Cluster(embedding=True)}, test, test, Embedded())["it"]
    clusters = Embedded().embed(test.images).argmax(dim=1)
    assert test.labels is not None
    best = max(
        sum(m[k] == y for k, y in zip(clusters.tolist(), test.labels.tolist(), strict=True))
        for m in itertools.permutations(range(3))
    )
    scores = report["scores"]
    assert next(iter(scores)) == "cluster-embedding" and scores["cluster-embedding"] == pytest.approx(best / 300)
    assert scores["cluster-embedding-nmi"] == pytest.approx(normalized_mutual_info_score(test.labels, clusters))
    assert all(name.startswith("cluster-embedding") for name in scores)
    assert report["summary"].startswith("the largest of 3 components of the embedding;")
    skipped = results({"it": Cluster(embedding=True)}, test, test)["it"]["skipped"]
    assert skipped == "the method has no embedding"


# --- other datasets ---------------------------------------------------------------------------------------------------


class Moved(Dataset):
    """Points around another centre."""

    by: float = option(default=5.0, help="How far they are moved.")

    def load(self, folder: Any, offline: bool) -> tuple[Split, Split]:
        half = noise(80, 3)
        return half, points(half.images.flatten(1) + self.by)


class Wide(Moved):
    def load(self, folder: Any, offline: bool) -> tuple[Split, Split]:
        half = noise(60, 4)
        return half, points(half.images.flatten(1) * 2)


class Dense(Pixels):
    def log_density(self, x: Tensor) -> Tensor:
        return -x.flatten(1).square().sum(dim=1) / 2


def told_apart(evaluator: OOD, method: Any) -> Any:
    test = noise(100, 1)
    return evaluate({"it": evaluator}, method, (test, test), Shift(), CPU, 0, lambda each: each.load(None, True))["it"]


def test_each_of_several_datasets_has_its_scores_and_the_headline_is_their_mean() -> None:
    datasets = {"moved": Moved(), "wide": Wide(), "far": Moved(by=9)}
    found = told_apart(OOD(datasets=datasets), Dense())
    scores = found["scores"]
    for name, dataset in datasets.items():
        alone = told_apart(OOD(against=dataset), Dense())
        assert alone["scores"] == {"ood": scores[f"ood-{name}"], "ood-density": scores[f"ood-density-{name}"]}
        assert (
            found["protocol"]["others"][name]["other"] == alone["protocol"]["other"] == (60 if name == "wide" else 80)
        )
    assert list(scores)[:2] == ["ood", "ood-density"] and len(scores) == 8
    assert scores["ood"] == pytest.approx(sum(scores[f"ood-{name}"] for name in datasets) / 3)
    assert "100 test images from 80 of moved, 60 of wide, 80 of far; " in found["summary"]
    assert set(told_apart(OOD(against=Moved(), datasets={"wide": Wide()}), Dense())["scores"]) == {
        "ood", "ood-density", "ood-Moved", "ood-density-Moved", "ood-wide", "ood-density-wide"
    }  # fmt: skip


def test_the_options_of_older_configs_and_the_command_line_still_work() -> None:
    for given in ("mnist", {"use": "mnist"}):
        evaluator = make(OOD, {"use": "ood", "against": given}, "evaluators.ood")
        assert to_dict(evaluator)["against"]["use"] == "mnist" and not evaluator.datasets
    evaluator = make(OOD, {"use": "ood", "against": "none", "datasets": "svhn,cifar100"}, "evaluators.ood")
    assert evaluator.against is None and list(evaluator.datasets) == ["svhn", "cifar100"]
    assert to_dict(make(OOD, to_dict(evaluator))) == to_dict(evaluator)
    with pytest.raises(ConfigError, match="evaluators.ood.datasets"):
        make(OOD, {"use": "ood", "datasets": "svhm"}, "evaluators.ood")


def test_an_embedding_gives_a_density_and_a_confidence_only_if_told() -> None:
    dataset, method = Moved(), Embedded()
    assert told_apart(OOD(against=dataset), method)["skipped"] == "the method has neither a density nor clusters"
    found = told_apart(OOD(against=dataset, embedding=True), method)
    known, others = (split.images.flatten(1).double() for split in (noise(100, 1), dataset.load(None, True)[1]))

    def expected(score: Any) -> float:
        values = [float(score(z)) for z in (*known, *others)]
        return float(roc_auc_score([1] * len(known) + [0] * len(others), values))

    def logits(z: Tensor) -> Tensor:
        return torch.stack([z[0], z[1] ** 2, z[2].sin()])

    def steepness(z: Tensor) -> Tensor:
        return -torch.autograd.functional.jacobian(lambda v: logits(v).logsumexp(dim=0), z).norm()

    assert found["scores"] == {
        "ood-embedding": pytest.approx(expected(steepness), abs=1e-3),
        "ood-embedding-density": pytest.approx(expected(lambda z: logits(z).logsumexp(dim=0)), abs=1e-3),
        "ood-embedding-confidence": pytest.approx(expected(lambda z: logits(z).softmax(dim=0).max()), abs=1e-3),
    }
    assert "the embedding is taken as logits" in found["summary"]


# --- the mixture ------------------------------------------------------------------------------------------------------


def test_a_mixture_is_the_best_of_its_starts() -> None:
    """As scikit-learn's `n_init` chooses it, from the same draws."""
    train, test = blobs(60, 1, classes=6, dimensions=2), blobs(60, 2, classes=6, dimensions=2)
    found = results({"it": Mixture(restarts=4, standardize=False)}, train, test)["it"]
    seed = seed_of(Use.EVALUATION, 0) % 2**32
    starts = [
        GaussianMixture(6, n_init=n, max_iter=200, random_state=seed).fit(train.images.flatten(1).double().numpy())
        for n in (1, 4)
    ]
    assert starts[0].lower_bound_ < starts[1].lower_bound_ == found["protocol"]["log_likelihood"]


def test_a_mixture_may_be_fitted_to_raw_features() -> None:
    """Scikit-learn adds 1e-6 to each variance, which is nothing only if the features are standardized."""
    halves = [blobs(80, seed, classes=2, dimensions=2) for seed in (1, 2)]
    small = [points(half.images.flatten(1) * 1e-4, half.labels) for half in halves]
    found = [results({"it": Mixture(restarts=1, standardize=flag)}, *small)["it"] for flag in (True, False)]
    assert found[0]["scores"]["gmm"] == 1.0
    direct = GaussianMixture(2, n_init=1, max_iter=200, random_state=0).fit(small[0].images.flatten(1).double().numpy())
    assert found[1]["protocol"]["log_likelihood"] == pytest.approx(direct.lower_bound_, rel=0.01)
    assert [" on raw features" in each["summary"] for each in found] == [False, True]


# --- content and style ------------------------------------------------------------------------------------------------


def test_content_is_the_r_squared_of_the_label() -> None:
    train, test = blobs(600, 1), blobs(300, 2)
    halves = [points(half.images.flatten(1), half.labels, x=half.images[:, 0, 0, 0]) for half in (train, test)]
    scores = score(Style(steps=1), *halves)
    design = [torch.cat([half.images.flatten(1), torch.ones(len(half), 1)], dim=1).double() for half in halves]
    hot = [torch.nn.functional.one_hot(half.labels, 4).double() for half in halves]
    predicted = design[1] @ torch.linalg.lstsq(design[0], hot[0]).solution
    expected = 1 - (hot[1] - predicted).square().sum() / (hot[1] - hot[1].mean(dim=0)).square().sum()
    assert scores["style-content-r2-linear"] == pytest.approx(float(expected), abs=1e-5)
    assert next(iter(scores)) == "style-r2" and "style-content-r2" in scores
    unlabelled = [points(half.images.flatten(1), x=half.factors["x"]) for half in halves]
    assert not any("content" in name for name in score(Style(steps=1), *unlabelled))


def test_unbalanced_attributes_are_left_out_if_told() -> None:
    attributes = {f"a{i}": (torch.arange(100) < i).long() for i in (10, 16, 50, 84, 95)}
    half = points(torch.randn(100, 2, generator=torch.Generator().manual_seed(0)), **attributes)
    named = {name for name in score(Style(steps=1, largest=0.84), half, half) if name.startswith("style-a")}
    assert named >= {"style-a16", "style-a50", "style-a84"} and not named & {"style-a10", "style-a95"}


def test_celeba_s_attributes_and_hair_are_scored(tmp_path: Path) -> None:
    """Faces whose brightness is the colour of the hair, of five, and whose redness is the gender."""
    base, n = tmp_path / "celeba", 60
    (base / "img_align_celeba").mkdir(parents=True)
    rows, parts = [], []
    for i in range(n):
        hair, male, rare = i % 5, i // 5 % 2, i == 7
        Image.new("RGB", (178, 218), (40 * hair + 60 * male, 40 * hair, 40 * hair)).save(
            base / "img_align_celeba" / f"{i}.jpg"
        )
        values = [male, *(hair == k for k in range(5)), rare]
        rows.append(f"{i}.jpg " + " ".join("1" if value else "-1" for value in values))
        parts.append(f"{i}.jpg {0 if i < 40 else 2}")
    header = " ".join(["Male", *_HAIR, "Wearing_Hat"])
    (base / "list_attr_celeba.txt").write_text("\n".join([str(n), header, *rows]) + "\n")
    (base / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    train, test = CelebA(size=8, label="hair").load(tmp_path, offline=True)
    found = results({"hair": Linear(), "style": Style(steps=1, largest=0.84)}, train, test)
    assert found["hair"]["scores"]["linear"] == 1.0 and train.labels is not None and len(train.labels.unique()) == 5
    scores = found["style"]["scores"]
    assert scores["style-Male-linear"] == scores["style-Black_Hair-linear"] == 1.0
    assert "style-Wearing_Hat" not in scores and "style-content-r2" in scores
