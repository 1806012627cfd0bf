"""The trained probes, held against plain loops of torch in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_probes import CPU, Pixels, blobs, noise, points, results, score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sslx.api import ConfigError, Split, Use, ViewPolicy, Views, permutation, seed_of
from sslx.core.training.evaluation import evaluate
from sslx.evaluators.probe import Probe, _Networks

TRAIN, TEST = blobs(300, 1, spread=1.5), blobs(400, 2, spread=1.5)


def report(evaluator: Probe, train: Split = TRAIN, test: Split = TEST) -> Any:
    return results({"it": evaluator}, train, test)["it"]


def plain(train: Split, test: Split, optimizer: Any, layers: Any, epochs: int, batch: int, cosine: bool) -> list[float]:
    """Test accuracies after each epoch, by the loop that papers write."""
    x, q = train.images.flatten(1).double(), test.images.flatten(1).double()  # type: ignore[union-attr]
    torch.manual_seed(seed_of(Use.EVALUATION, 0))
    model = layers().double()
    optimizer = optimizer(model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    found = []
    for epoch in range(epochs):
        for index in permutation(len(x), Use.EVALUATION, 0, epoch).split(batch):
            optimizer.zero_grad()
            cross_entropy(model(x[index]), train.labels[index]).backward()  # type: ignore[index]
            optimizer.step()
        if cosine:
            schedule.step()
        found.append((model(q).argmax(dim=1) == test.labels).double().mean().item())
    return found


LOOPS: dict[str, tuple[Any, Any]] = {
    "simvae": (
        lambda w: torch.optim.Adam(w, lr=3e-2),
        {"optimizer": "adam", "lr": 3e-2, "schedule": "constant"},
    ),
    "gedi": (
        lambda w: torch.optim.SGD(w, lr=1e-2, momentum=0.9),
        {"lr": 1e-2, "schedule": "constant"},
    ),
    "aasae": (
        lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9, nesterov=True),
        {"lr": 0.1, "nesterov": True},
    ),
    "decayed": (
        lambda w: torch.optim.AdamW(w, lr=3e-2, weight_decay=1.0),
        {"optimizer": "adamw", "lr": 3e-2, "weight_decay": 1.0},
    ),
}


@pytest.mark.parametrize("hidden", [None, 0, 7])
@pytest.mark.parametrize("name", LOOPS)
def test_a_probe_is_the_plain_loop_of_the_paper(name: str, hidden: int | None) -> None:
    optimizer, options = LOOPS[name]
    width = hidden or 5

    def layers() -> nn.Module:
        if hidden is None:
            return nn.Sequential(nn.Linear(5, 4))
        return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 4))

    expected = plain(TRAIN, TEST, optimizer, layers, 6, 32, options.get("schedule") != "constant")
    found = report(Probe(hidden=hidden, epochs=6, batch_size=32, **options))
    assert found["scores"]["probe"] == pytest.approx(expected[-1], abs=1e-4)
    assert found["scores"]["probe-best-on-test"] == pytest.approx(max(expected), abs=1e-4)
    assert found["protocol"]["epoch_best_on_test"] == 1 + expected.index(max(expected))
    assert len(set(expected)) > 2 and "optimistic" in found["summary"]


def test_rates_that_are_trained_at_once_are_as_one_at_a_time() -> None:
    rates = (0.001, 0.01, 0.1, 1.0)
    together = report(Probe(lr=rates, hidden=6, epochs=4))["protocol"]["test_accuracies"]
    assert together == [report(Probe(lr=rate, hidden=6, epochs=4))["scores"]["probe"] for rate in rates]
    assert len(set(together)) > 2

    how = Probe(optimizer="adam", weight_decay=0.1)
    x, batches = TRAIN.images.flatten(1), torch.arange(300).split(64)  # type: ignore[union-attr]

    def trained(*rates: float) -> list[Tensor]:
        torch.manual_seed(0)
        networks = _Networks((5, 6, 4), rates, how, CPU)
        networks.train(x, TRAIN.labels, batches)  # type: ignore[arg-type]
        return networks.weights

    for i, rate in enumerate(rates):
        for several, alone in zip(trained(*rates), trained(rate), strict=True):
            torch.testing.assert_close(several[i], alone[0])


def test_the_rate_is_chosen_on_images_that_are_not_trained_on() -> None:
    # More dimensions than images, and labels that are noise: whatever was trained on is known by heart.
    train, test = (noise(400, seed, classes=2, dimensions=500) for seed in (1, 2))
    facts = report(Probe(lr=(0.1, 0.3, 1.0), epochs=20), train, test)
    protocol, scores = facts["protocol"], facts["scores"]
    assert max(protocol["held_out_accuracies"]) < 0.75 and protocol["held_out"] == 40
    chosen = protocol["held_out_accuracies"].index(max(protocol["held_out_accuracies"]))
    assert protocol["lr"] == protocol["rates"][chosen] and scores["probe"] == protocol["test_accuracies"][chosen]
    assert scores["probe-best-on-test"] >= max(protocol["test_accuracies"])
    alone = report(Probe(lr=0.1, epochs=20), train, test)
    assert alone["protocol"]["held_out"] == 0 and "held-out" not in alone["summary"]


def test_features_are_standardized_by_the_training_set_only_if_asked_for() -> None:
    scale, shift = torch.tensor([1.0, 1e-3, 1e3, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1e3, 0.0, 5.0])

    def scaled(split: Split) -> Split:
        return points(split.images.flatten(1) * scale + shift, split.labels)  # type: ignore[union-attr]

    def standard(split: Split) -> Split:
        z = TRAIN.images.flatten(1)  # type: ignore[union-attr]
        x = (split.images.flatten(1) - z.mean(dim=0)) / z.std(dim=0, correction=0)  # type: ignore[union-attr]
        return points(x * (scale > 0), split.labels)

    options = {"lr": 0.1, "epochs": 3}
    expected = score(Probe(**options), standard(TRAIN), standard(TEST))
    assert score(Probe(**options, standardize=True), scaled(TRAIN), scaled(TEST)) == pytest.approx(expected, abs=0.01)
    assert score(Probe(**options), scaled(TRAIN), scaled(TEST))["probe"] < expected["probe"] - 0.1


class Remembers(ViewPolicy):
    """The images, of which it remembers the positions and epochs."""

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        SEEN.append((epoch, self.count, index))
        return Views(x=images[:, None] * -1, original=images, index=index)


SEEN: list[Any] = []


def test_every_epoch_has_its_views_of_the_training_images_and_the_test_images_are_clean() -> None:
    SEEN.clear()
    mirrored = Probe(lr=0.1, epochs=3, augment=True, views=Remembers(count=4))
    inverted = points(-TRAIN.images.flatten(1), TRAIN.labels)  # type: ignore[union-attr]
    assert score(mirrored, TRAIN, TEST) == score(Probe(lr=0.1, epochs=3), inverted, TEST)
    assert [(epoch, count) for epoch, count, _ in SEEN] == [(0, 1), (1, 1), (2, 1)]
    assert all(torch.equal(index, torch.arange(300)) for *_, index in SEEN)
    SEEN.clear()
    evaluators = {"it": Probe(lr=0.1, epochs=1, augment=True)}
    evaluate(evaluators, Pixels(), (TRAIN, TEST), Remembers(), CPU, 0, lambda dataset: (TRAIN, TEST))
    assert len(SEEN) == 1, "the run's own views"


def test_a_rate_that_diverges_is_not_chosen_and_a_label_that_is_not_known_is_an_error() -> None:
    far = points(TRAIN.images.flatten(1) * 1e18, TRAIN.labels)  # type: ignore[union-attr]
    found = report(Probe(lr=(1e-30, 1e30), epochs=2), far, TEST)
    assert found["protocol"]["lr"] == 1e-30
    assert "diverged with the learning rate 1e+30" in report(Probe(lr=1e30, epochs=2), far, TEST)["failed"]
    others = Split(TEST.images, TEST.labels + 4)  # type: ignore[operator]
    assert score(Probe(lr=0.1), TRAIN, others) == {"probe": 0.0, "probe-best-on-test": 0.0}


def test_options_that_have_no_effect_are_refused() -> None:
    for options, said in (
        ({"views": "standard"}, "views: is only used with augment=true"),
        ({"nesterov": True, "optimizer": "adam"}, "nesterov: expected optimizer=sgd"),
        ({"lr": ()}, "at least one learning rate"),
    ):
        with pytest.raises(ConfigError, match=said):
            Probe(**options)  # type: ignore[arg-type]
