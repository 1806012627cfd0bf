"""What the scores without labels promise, held against plain loops in float64 and against closed forms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import fractional_matrix_power
from test_probes import CPU, Pixels, points, results, score
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from sslx.api import Context, Delta, Encoder, Split, Use, ViewPolicy, Views, diagonal_normal, permutation, pixels
from sslx.core.training.evaluation import evaluate
from sslx.evaluators.geometry import Geometry, lidar, power_law
from sslx.evaluators.posterior import PosteriorCollapse
from sslx.evaluators.similarity import Similarity
from sslx.outputs.pictures import heat, pictures


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- LiDAR ------------------------------------------------------------------------------------------------------------


def numpy_lidar(z: np.ndarray, delta: float) -> float:
    """Thilak et al. 2023, section 4, as it is written."""
    n, q, D = z.shape
    mean = z.mean(axis=(0, 1))
    between, within = np.zeros((D, D)), delta * np.eye(D)
    for image in z:
        centre = image.mean(axis=0)
        between += np.outer(centre - mean, centre - mean) / (n - 1)
        for view in image:
            within += np.outer(view - centre, view - centre) / (n * (q - 1))
    root = fractional_matrix_power(within, -0.5)
    eigenvalues = np.linalg.eigvalsh(root @ between @ root).clip(0)
    p = eigenvalues / eigenvalues.sum() + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


@pytest.mark.parametrize(("n", "q", "D"), [(30, 4, 6), (5, 3, 12), (40, 2, 1)])
def test_lidar_is_that_of_a_loop_in_numpy(n: int, q: int, D: int) -> None:
    z = random(n, 1, D) * torch.linspace(0.1, 2, D, dtype=torch.float64) + 0.5 * random(n, q, D, seed=1) + 3
    for delta in (1e-4, 0.5):
        assert lidar(z, delta) == pytest.approx(numpy_lidar(z.numpy(), delta), rel=1e-9)


def test_lidar_does_not_count_dimensions_in_which_views_differ_more_than_images() -> None:
    """Images at ±e₁ … ±e₅ have the same variance in five dimensions, and views differ in the fifth only."""
    images = torch.cat([torch.eye(5), -torch.eye(5)]).double()[:, None]  # (10, 1, 5)
    noise = torch.zeros(2, 5, dtype=torch.float64)
    for spread, delta in ((0.0, 1e-4), (0.3, 0.1), (30.0, 1e-4)):
        noise[:, 4] = torch.tensor([spread, -spread])
        λ = [1 / delta] * 4 + [1 / (delta + 2 * spread**2)]
        p = [value / sum(λ) for value in λ]
        expected = math.exp(-sum(each * math.log(each) for each in p if each > 0))
        assert lidar(images + noise, delta) == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(4, rel=1e-3)


class Noisy(ViewPolicy):
    """View j of image i is the image plus noise that depends on i and j."""

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        noise = torch.stack([random(self.count, *images.shape[1:], seed=int(i)) for i in index]).float()
        return Views(x=images[:, None] + 0.1 * noise, original=images, index=index)


class Halved(Pixels):
    """Two representations: the image, and the first half of it."""

    def representations(self) -> Any:
        return {"latent": self.represent, "embedding": lambda x: x.flatten(1)[:, :2]}


@pytest.mark.parametrize("of", ["latent", "embedding"])
def test_lidar_and_alignment_are_of_the_representation_and_of_views_of_a_sample(
    of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sslx.evaluators.geometry._CHUNK", 8)
    test = points(random(40, 4))
    evaluator = Geometry(images=25, views=3, delta=1e-3, of=(of,))
    found = evaluate({"it": evaluator}, Halved(), (test, test), Noisy(), CPU, 5, lambda dataset: (test, test))["it"]
    assert found["protocol"]["lidar"] == {"images": 25, "views": 3, "delta": 1e-3, "epsilon": 1e-7}

    def views(index: Tensor, count: int) -> Tensor:
        z = Noisy(count=count)(test.images[index], index, seed=5, epoch=0).x.flatten(2).double()
        return z if of == "latent" else z[..., :2]

    some = permutation(40, Use.EVALUATION, 5)[:25]
    assert found["scores"]["lidar"] == pytest.approx(numpy_lidar(views(some, 3).numpy(), 1e-3), rel=1e-6)
    first, second = (z / z.norm(dim=1, keepdim=True) for z in views(torch.arange(40), 2).unbind(dim=1))
    assert found["scores"]["alignment"] == pytest.approx((first - second).square().sum(dim=1).mean().item(), rel=1e-6)


# --- α-ReQ ------------------------------------------------------------------------------------------------------------


def with_spectrum(eigenvalues: Tensor, n: int) -> Split:
    """n points whose covariance has exactly these eigenvalues."""
    centred = random(n, len(eigenvalues))
    orthogonal = torch.linalg.qr(centred - centred.mean(dim=0)).Q * math.sqrt(n)
    rotation = torch.linalg.qr(random(len(eigenvalues), len(eigenvalues), seed=1)).Q
    return points(orthogonal * eigenvalues.sqrt() @ rotation + 2)


@pytest.mark.parametrize(("D", "first", "last"), [(120, 6, 100), (30, 6, 30), (10, 1, 10), (2, 1, 2)])
def test_alpha_is_the_exponent_of_a_spectrum_that_is_a_power_law(D: int, first: int, last: int) -> None:
    k = torch.arange(1, D + 1).double()
    for alpha in (0.5, 1.0, 2.0):
        test = with_spectrum(7 * k**-alpha, 300)
        found = results({"it": Geometry(images=2, views=2)}, test, test)["it"]
        assert found["scores"]["alpha"] == pytest.approx(alpha, abs=1e-3)
        assert found["protocol"]["alpha"] == {
            "alpha": found["scores"]["alpha"], "first": first, "last": last, "r2": pytest.approx(1, abs=1e-4)
        }  # fmt: skip


def test_alpha_of_draws_from_a_gaussian_is_near_that_of_its_covariance() -> None:
    k = torch.arange(1, 61).double()
    test = points(random(20000, 60) / k.sqrt())
    spectrum = torch.linalg.eigvalsh(test.images.flatten(1).double().T.cov()).flip(0)
    assert power_law(spectrum, 6, 100)["alpha"] == pytest.approx(1, abs=0.03)


def test_the_fit_is_least_squares_with_weights_one_over_k() -> None:
    spectrum = (random(50).abs().sort(descending=True).values + 0.1).exp()
    k = np.arange(3, 41)
    slope, _ = np.polyfit(np.log(k), spectrum[2:40].log().numpy(), 1, w=1 / np.sqrt(k))
    assert power_law(spectrum, 3, 40)["alpha"] == pytest.approx(-slope, rel=1e-9)


def test_a_representation_of_one_dimension_or_none_has_no_alpha() -> None:
    for z in (random(50, 1) * torch.eye(1, 4), torch.ones(50, 4)):
        scores = score(Geometry(views=2), points(z), points(z))
        assert "alpha" not in scores and scores["lidar"] == pytest.approx(1, abs=1e-4)
    assert {"lidar", "alpha"}.isdisjoint(score(Geometry(), points(random(5, 4)), points(random(1, 4))))


# --- similarity -------------------------------------------------------------------------------------------------------


def test_similarities_are_those_of_a_loop_over_all_pairs() -> None:
    z, labels = random(40, 3), torch.arange(40) % 3
    labels[0] = 7  # a class of one image
    test = points(z, labels)
    found = results({"it": Similarity()}, test, test)["it"]
    u = (z.float() / z.float().norm(dim=1, keepdim=True)).double()
    classes = [0, 1, 2, 7]
    for a, row in zip(classes, found["protocol"]["similarities"], strict=True):
        for b, value in zip(classes, row, strict=True):
            cosines = [
                float(u[i] @ u[j]) for i in range(40) for j in range(40) if i != j and (labels[i], labels[j]) == (a, b)
            ]
            assert value == pytest.approx(np.mean(cosines), abs=1e-6) if cosines else math.isnan(value)
    assert found["protocol"]["classes"] == classes
    matrix = np.array(found["protocol"]["similarities"])
    everything = [float(u[i] @ u[j]) for i in range(40) for j in range(40) if i != j]
    assert found["scores"] == {
        "similarity": pytest.approx(np.mean(everything), abs=1e-6),
        "similarity-same-class": pytest.approx(np.nanmean(matrix.diagonal())),
        "similarity-other-class": pytest.approx(matrix[~np.eye(4, dtype=bool)].mean()),
    }


def test_a_collapsed_representation_is_similar_everywhere_and_needs_no_labels() -> None:
    z = 1e-3 * random(20, 4) + torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert score(Similarity(), points(z), points(z)) == {"similarity": pytest.approx(1, abs=1e-5)}


# --- posterior --------------------------------------------------------------------------------------------------------


class Given(Encoder):
    """q(z|x) whose means and log-variances are the pixels."""

    def build(self, ctx: Context) -> Context:
        return ctx

    def forward(self, x: Tensor) -> Distribution:
        mean, log_variance = x.flatten(1).chunk(2, dim=1)
        return diagonal_normal(mean, log_variance)


class Point(Given):
    def forward(self, x: Tensor) -> Distribution:
        return Delta(x.flatten(1))


class WithPosterior(Pixels):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder


def posteriors(n: int) -> tuple[Tensor, Tensor]:
    """Means and variances of four dimensions: alive, collapsed onto N(0, 1), collapsed onto another, onto N(0, 1) but once."""
    mean, variance = random(n, 4), torch.full((n, 4), 0.1, dtype=torch.float64)
    mean[:, 1:] = torch.tensor([0.0, 3.0, 0.0])
    variance[:, 1:] = torch.tensor([1.0, 0.01, 1.0])
    mean[0, 3] = 0.5
    return mean, variance


def test_divergences_are_those_of_torch_and_collapsed_dimensions_are_counted() -> None:
    mean, variance = posteriors(200)
    test = points(torch.cat([mean, variance.log()], dim=1))
    found = results({"it": PosteriorCollapse()}, test, test, WithPosterior(Given()))["it"]
    q = torch.distributions.Normal(mean, variance.sqrt())
    prior = kl_divergence(q, torch.distributions.Normal(torch.zeros(()), torch.ones(())))
    spread = (variance.mean(dim=0) + mean.var(dim=0, correction=0)).sqrt()
    aggregate = kl_divergence(q, torch.distributions.Normal(mean.mean(dim=0), spread))
    assert found["protocol"]["kl"] == pytest.approx(prior.mean(dim=0).tolist(), rel=1e-4, abs=1e-6)
    assert found["protocol"]["kl_from_aggregate"] == pytest.approx(aggregate.mean(dim=0).tolist(), rel=1e-3, abs=1e-6)
    assert found["protocol"]["collapsed"] == [1, 2, 3]
    strict = results({"it": PosteriorCollapse(delta=0.0)}, test, test, WithPosterior(Given()))["it"]
    assert strict["protocol"]["collapsed"] == [1, 2]
    assert found["scores"] == {
        "posterior-collapsed": 3.0,
        "posterior-kl": pytest.approx(float(prior.sum(dim=1).mean()), rel=1e-4),
    }


def test_methods_without_a_normal_posterior_are_skipped() -> None:
    test = points(random(20, 4))
    for method, said in (
        (Pixels(), "the method has no encoder"),
        (WithPosterior(Point()), "the encoder gives no normal distribution"),
    ):
        assert results({"it": PosteriorCollapse()}, test, test, method)["it"]["skipped"] == said


# --- pictures ---------------------------------------------------------------------------------------------------------


def opened(path: Path) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB")))


def test_similarities_and_the_posterior_have_pictures(tmp_path: Path) -> None:
    images = torch.randint(256, (90, 2, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    test = Split(images, torch.arange(90) % 3)
    pictures(WithPosterior(Given()), test, CPU, 0, tmp_path, Noisy())
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "similarity.png", "similarity-views.png", "posterior.png"
    }  # fmt: skip
    drawn = opened(tmp_path / "similarity.png")
    order = permutation(90, Use.EVALUATION, 0)
    chosen = torch.cat([order[test.labels[order] == each][:8] for each in range(3)])
    u = torch.nn.functional.normalize(pixels(images[chosen]).flatten(1))
    s = u @ u.T  # no pixel is negative, so white is the lowest one
    low = math.floor(1000 * float(s.min())) / 1000
    above = ((s - low) / (1 - low)).repeat_interleave(4, dim=0).repeat_interleave(4, dim=1)
    expected = torch.stack([torch.ones_like(above), 1 - above, 1 - above], dim=2)
    below = drawn[-3 * 8 * 4 :, : 3 * 8 * 4]  # its title stands above, and may be wider
    assert below.shape == expected.shape and (below / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6
    height, width, _ = opened(tmp_path / "similarity-views.png").shape
    assert (height - len(drawn) + len(below), width) == (10 * 8 * 4, 10 * 8 * 4)


@pytest.mark.parametrize(
    ("z", "row"),
    [
        ([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]], [[255, 0, 0], [255, 255, 255], [0, 0, 255]]),
        ([[1.0, 0.0], [1.0, 0.0], [0.995, (1 - 0.995**2) ** 0.5]], [[255, 0, 0], [255, 0, 0], [255, 255, 255]]),
    ],
)
def test_the_colours_of_similarities_span_those_that_there_are(
    z: list[list[float]], row: list[list[int]], tmp_path: Path
) -> None:
    heat(torch.tensor(z), tmp_path / "it.png", "")
    drawn = opened(tmp_path / "it.png")[-48::16, :48:16]  # three cells of 4 pixels, four times enlarged
    assert (drawn[0] - torch.tensor(row)).abs().max() <= 51  # the limit is rounded to thousandths
