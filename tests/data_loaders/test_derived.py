"""Generated datasets are what they say, and the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import digest
from scipy.stats import ks_2samp
from sklearn.datasets import make_circles, make_moons

from sslx.api import ConfigError, Split
from sslx.core.training.config import configure
from sslx.data_loaders.datasets.addition import Addition, sums
from sslx.data_loaders.datasets.points import Circles, Moons
from sslx.data_loaders.datasets.styled import style
from sslx.data_loaders.views.noise import Noise
from sslx.data_loaders.views.restyle import Restyle, restyle


@pytest.fixture
def digits() -> Split:
    """5000 images of one pixel pair that tell their position, 500 of each digit."""
    n = torch.arange(5000)
    images = torch.stack([n // 256, n % 256], dim=1).to(torch.uint8).reshape(-1, 1, 1, 2)
    return Split(images, n % 10)


def test_the_third_digit_is_the_sum_and_no_image_is_used_twice(digits: Split) -> None:
    triples = sums(digits, 1000, 0, "triples")
    assert triples.images.shape == (3000, 1, 1, 2) and triples.arity == 3
    used = (triples.images.long() * torch.tensor([256, 1])).sum(dim=(1, 2, 3))  # positions
    assert used.unique().numel() == 3000
    assert triples.labels is not None and torch.equal(used % 10, triples.labels)
    a, b, c = triples.labels.view(-1, 3).unbind(dim=1)
    assert torch.equal(a + b, c)


def test_the_55_pairs_are_equally_likely(digits: Split) -> None:
    labels = sums(digits, 1200, 0, "triples").labels
    assert labels is not None
    counts = (labels[0::3] * 10 + labels[1::3]).bincount(minlength=100)
    assert (counts > 0).sum() == 55
    observed = counts[counts > 0].float()
    assert ((observed - 1200 / 55) ** 2 / (1200 / 55)).sum() < 91.9  # chi-squared, 54 degrees of freedom, p = 0.001


def test_too_many_triples_are_refused(digits: Split) -> None:
    with pytest.raises(ConfigError, match=r"dataset.triples: 5000 need \d+ images of a 0, but there are 500"):
        sums(digits, 5000, 0, "triples")


@pytest.mark.parametrize(("triples", "epochs"), [(100, 350), (1000, 35), (10_000, 4)])
def test_few_triples_are_trained_on_for_as_many_steps_as_many(triples: int, epochs: int) -> None:
    layer = {"method": "gedi", "dataset": {"use": "mnist-addition", "triples": triples}}
    assert configure(layer).train.epochs == epochs and configure(layer).train.batch_size == 60
    assert configure({"method": "gedi", "dataset": Addition(triples=triples)}).train.epochs == epochs
    assert configure(layer, {"train": {"epochs": 3}}).train.epochs == 3


def test_the_same_triples_come_every_time(digits: Split) -> None:
    first, second, other = sums(digits, 100, 0, ""), sums(digits, 100, 0, ""), sums(digits, 100, 1, "")
    assert torch.equal(first.images, second.images) and not torch.equal(first.images, other.images)


def blob(x: int, y: int) -> torch.Tensor:
    """A black image of 28x28 with a square of 4 pixels about (x, y)."""
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[:, :, y - 2 : y + 2, x - 2 : x + 2] = 200
    return image


def centre(image: torch.Tensor) -> tuple[float, float]:
    """Centre of mass from the middle of the image, to the right and down."""
    weight = image[0, 0].double() / image.sum()
    place = torch.arange(28) - 13.5
    return float((weight.sum(dim=0) * place).sum()), float((weight.sum(dim=1) * place).sum())


@pytest.mark.parametrize(("rotation", "dx", "dy"), [(0, 0, 0), (0, 3, -2), (90, 0, 0), (30, 0, 0), (-45, 4, 1.5)])
def test_a_style_does_what_its_factors_say(rotation: float, dx: float, dy: float) -> None:
    one = torch.ones(1)
    x, y = centre(restyle(blob(20, 14), rotation * one, dx * one, dy * one, one))
    radius, angle = 0.75 * 6, math.radians(rotation)  # the blob is 6 pixels right of the middle
    assert x == pytest.approx(radius * math.cos(angle) + dx, abs=0.15)
    assert y == pytest.approx(-radius * math.sin(angle) + dy, abs=0.15)  # counterclockwise is up


def test_brightness_is_a_factor_of_every_pixel() -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    image = torch.full((1, 1, 28, 28), 200, dtype=torch.uint8)
    assert restyle(image, zero, zero, zero, 0.5 * one)[0, 0, 14, 14] == 100
    assert restyle(image, zero, zero, zero, one)[0, 0, 0, 0] == 0  # shrunk, on black


def test_styles_are_drawn_from_their_ranges() -> None:
    split = style(Split(torch.zeros(3000, 1, 28, 28, dtype=torch.uint8)), 0)
    ranges = {"rotation": (-45, 45), "dx": (-4, 4), "dy": (-4, 4), "brightness": (0.4, 1)}
    for name, (low, high) in ranges.items():
        values = (split.factors[name].sort().values - low) / (high - low)
        uniform = (torch.arange(3000) + 0.5) / 3000
        assert (values - uniform).abs().max() < 1.95 / math.sqrt(3000)  # Kolmogorov and Smirnov, p = 0.001
    together = torch.corrcoef(torch.stack(list(split.factors.values())))
    assert (together - torch.eye(4)).abs().max() < 0.07


def test_restyled_views_are_the_image_moved_by_amounts_of_their_own() -> None:
    images, index = blob(14, 14).repeat(300, 1, 1, 1), torch.arange(300)
    moved = Restyle(count=2, rotation=0.0, shift=3.0, brightness=1.0)(images, index, seed=0, epoch=0)
    shifts = torch.tensor([centre(view[None]) for view in moved.flat]) - torch.tensor(centre(images[:1]))
    assert shifts.abs().max() < 3.05 and shifts.abs().amax(dim=0).min() > 2.8
    assert shifts.std(dim=0).tolist() == pytest.approx([math.sqrt(3)] * 2, rel=0.1)
    assert torch.equal(moved.original, images / 255) and moved.x.shape == (300, 2, *images.shape[1:])
    part = Restyle(rotation=0.0, shift=3.0, brightness=1.0)(images[40:50], index[40:50], seed=0, epoch=0)
    assert torch.equal(part.x, moved.x[40:50])  # a function of the image's place alone
    still = Restyle(rotation=0.0, shift=0.0, brightness=0.5)(images, index, seed=0, epoch=1)
    factors = (still.x / images[0] * 255)[..., 14, 14].flatten()
    assert 0.49 < factors.min() < 0.52 and 0.98 < factors.max() < 1.01
    assert not torch.allclose(Restyle(shift=0.0)(images, index, seed=0, epoch=0).x, still.x, atol=0.1)


@pytest.mark.parametrize("dataset", [Moons(samples=500), Circles(samples=500)])
def test_points_are_floats_in_two_classes(dataset: Moons | Circles, tmp_path: Path) -> None:
    train, test = dataset.load(tmp_path, offline=True)
    assert train.images.shape == (500, 2, 1, 1) and train.images.dtype == torch.float32 and len(test) == 100
    assert train.labels is not None and train.labels.bincount().tolist() == [250, 250]
    assert not torch.equal(train.images[:100], test.images)
    assert torch.equal(dataset.load(tmp_path, offline=True)[0].images, train.images)


def test_samples_of_a_vae_on_points_can_be_anywhere(tiny_run: Any) -> None:
    settings: dict[str, Any] = {"dataset": {"use": "moons", "samples": 400}, "subset": None, "evaluators": []}
    run = tiny_run("vae", "run", train={"epochs": 20, "batch_size": 20}, **settings)
    torch.manual_seed(0)
    x, y = run.method().sample(500).flatten(1).T
    assert (x < 0).any() and (x > 1).any() and (y < 0).any()
    chosen: Any = configure({"method": {"use": "vae", "decoder": {"likelihood": "bernoulli"}}, "dataset": "moons"})
    assert type(chosen.method.decoder.likelihood).__name__ == "BernoulliLikelihood"


@pytest.mark.parametrize(
    ("dataset", "made"),
    [
        (Moons(samples=2000, noise=0.05), lambda: make_moons(2000, noise=0.05, random_state=0)),
        (
            Circles(samples=2000, noise=0.08, factor=0.4),
            lambda: make_circles(2000, noise=0.08, factor=0.4, random_state=0),
        ),
    ],
)
def test_points_are_distributed_as_scikit_learns(dataset: Moons | Circles, made: Any, tmp_path: Path) -> None:
    train, _ = dataset.load(tmp_path, offline=True)
    expected, labels = made()
    for curve in range(2):
        ours, theirs = train.images[train.labels == curve].flatten(1).numpy(), expected[labels == curve]
        for direction in ((1, 0), (0, 1), (1, 1), (1, -1)):
            assert ks_2samp(ours @ direction, theirs @ direction).pvalue > 0.001


def test_fresh_points_are_others_in_each_epoch_and_seed_and_the_same_again(tmp_path: Path) -> None:
    train, test = Moons(samples=500, noise=0.01, fresh=True).load(tmp_path, offline=True)
    assert train.fresh is not None and test.fresh is None
    drawn = [train.fresh(seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))] + [train.images]
    for i in range(4):
        assert drawn[i].shape == (500, 2, 1, 1)
        assert not any((drawn[i] == drawn[j]).all(dim=1).any() for j in range(i))
        outside = (drawn[i].flatten(1)[train.labels == 0].norm(dim=1) - 1).abs()
        assert outside.max() < 0.05  # a point stays on its moon
    assert torch.equal(train.fresh(0, 1), drawn[1])
    some = train.take(torch.tensor([7, 3]))
    assert some.fresh is not None and torch.equal(some.fresh(0, 1), drawn[1][[7, 3]])


def test_a_run_on_fresh_points_trains_on_them_and_can_be_repeated(tiny_run: Callable[..., Any]) -> None:
    runs = [
        tiny_run("vae", str(i), dataset={"use": "moons", "samples": 200, "fresh": fresh})
        for i, fresh in enumerate((True, True, False))
    ]
    fresh, again, fixed = (digest(run.path) for run in runs)
    assert fresh == again != fixed


def test_noise_has_its_scale_and_is_of_each_view_alone() -> None:
    points, index = torch.zeros(2000, 2, 1, 1), torch.arange(2000)
    x = Noise(count=3, scale=0.1)(points, index, seed=1, epoch=2).x
    assert x.shape == (2000, 3, 2, 1, 1) and abs(x.std() - 0.1) < 0.003 and abs(x.mean()) < 0.003
    assert (torch.corrcoef(x.flatten(1).T) - torch.eye(6)).abs().max() < 0.08
    again = Noise(count=3, scale=0.1)(points[:5], index[:5], seed=1, epoch=2).x
    assert torch.equal(again, x[:5]) and not torch.equal(x, Noise(count=3)(points, index, seed=1, epoch=3).x)


def test_a_method_trains_on_points_and_they_are_evaluated_as_they_are(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run("vae", "points", dataset={"use": "circles", "noise": 0.01})
    assert run.config.views.__class__ is Noise
    assert run.results["untrained"]["knn"]["scores"]["knn"] > 0.9
