"""The generative family: losses, priors, networks and what can be asked of a trained model."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GENERATIVE, digest
from PIL import Image
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import multivariate_normal, norm
from test_methods import batch, build
from torch import Tensor
from torchvision.transforms import Normalize

import sslx
from sslx.api import Clusters, ConfigError, Context, Delta, Encoder, Split, Views, can, pixels
from sslx.core.options import options_of
from sslx.core.training.config import configure
from sslx.families.aggregate import Aggregate
from sslx.ssl_methods.networks.resnet import Block
from sslx.ssl_methods.parts.likelihoods import GaussianLikelihood
from sslx.ssl_methods.parts.priors import GaussianMean, Hierarchical, Mixture, SharedMean, StandardNormal

D = 10

# --- losses, in loops and float64 ---------------------------------------------------------------------------------------


def linear(layer: Any, x: np.ndarray) -> np.ndarray:
    return layer.weight.detach().double().numpy() @ x + layer.bias.detach().double().numpy()


def through(network: Any, last: Any, x: np.ndarray) -> np.ndarray:
    """One image or latent through an MLP with one hidden layer."""
    return linear(last, np.maximum(linear(network.layers[0], x), 0))


def posterior(model: Any, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of q(z|x) of one image."""
    out = through(model.encoder, model.encoder.posterior.moments, x.double().flatten().numpy())
    return out[:D], np.exp(out[D:] / 2)


def log_likelihood(model: Any, x: Tensor, z: np.ndarray) -> float:
    h, pixels = through(model.decoder, model.decoder.pixels, z), x.double().flatten().numpy()
    likelihood = model.decoder.likelihood
    p = 1 / (1 + np.exp(-h))
    if not isinstance(likelihood, GaussianLikelihood):
        return float(sum(v * math.log(q) + (1 - v) * math.log(1 - q) for v, q in zip(pixels, p, strict=True)))
    mean = h if likelihood.mean == "linear" else p
    return float(norm.logpdf(pixels, mean, math.sqrt(likelihood.variance)).sum())


def log_prior(prior: Any, z: np.ndarray) -> float:
    """Of the related latents of one image, (J, D)."""
    if isinstance(prior, SharedMean):
        return float(-((z - z.mean(axis=0)) ** 2).sum() / (2 * prior.variance))
    if isinstance(prior, GaussianMean):
        covariance = prior.variance * np.eye(len(z)) + prior.scale**2
        return float(multivariate_normal.logpdf(z.T, np.zeros(len(z)), covariance).sum())
    return float(norm.logpdf(z).sum())


def negative_elbo(
    model: Any, x: Tensor, target: Tensor, noise: Tensor, beta: float = 1.0, entropy_weight: float = 1.0
) -> float:
    """The loss of (N, J, C, H, W) views, an image at a time; `noise` is what q's samples are made of, (B, D)."""
    N, J = x.shape[:2]
    draws, total = iter(noise.double().numpy()), 0.0
    for n in range(N):
        latents = []
        for j in range(J):
            mean, deviation = posterior(model, x[n, j])
            latents.append(mean + deviation * next(draws))
            total -= log_likelihood(model, target[n, j], latents[-1])
            total -= beta * entropy_weight * float(norm.entropy(mean, deviation).sum())
        total -= beta * log_prior(model.prior, np.stack(latents))
    return total / (N * J)


@pytest.mark.parametrize(
    ("method", "options", "target", "weights"),
    [
        ("vae", {}, "view", {}),
        ("vae", {"target": "original"}, "original", {}),
        ("vae", {"decoder": {"hidden": [16], "likelihood": "bernoulli"}}, "view", {}),
        ("vae", {"decoder": {"hidden": [16], "likelihood": {"mean": "linear", "variance": 0.3}}}, "view", {}),
        ("simvae", {}, "view", {}),
        ("simvae", {"entropy_weight": 2 * math.pi}, "view", {"entropy_weight": 2 * math.pi}),
        ("simvae", {"prior": "gaussian-mean"}, "view", {}),
        ("beta-vae", {}, "view", {"beta": 1.2}),
        ("beta-vae", {"beta": 4.0}, "view", {"beta": 4.0}),
        ("aasae", {}, "original", {"beta": 0.0}),
        ("aasae", {"target": "view", "beta": 0.1}, "view", {"beta": 0.1}),
    ],
)
def test_the_loss_is_the_elbo_image_by_image(method: str, options: Any, target: str, weights: Any) -> None:
    model, views = build(method, **options), batch(views=3)
    views = Views(views.x, torch.rand(6, 1, 8, 8), views.index)
    torch.manual_seed(7)
    loss = model(views).total
    torch.manual_seed(7)
    goal = views.x if target == "view" else views.original[:, None].expand_as(views.x)
    expected = negative_elbo(model, views.x, goal, torch.randn(18, D), **weights)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("method", "target"), [("ae", "view"), ("aaae", "original"), ("aaae", "view")])
def test_autoencoders_reconstruct_their_target_without_noise(method: str, target: str) -> None:
    model, views = build(method, target=target), batch()
    views = Views(views.x, torch.rand(6, 1, 8, 8), views.index)
    total = 0.0
    for n, j in itertools.product(range(6), range(2)):
        z = through(model.encoder, model.encoder.posterior.point, views.x[n, j].double().flatten().numpy())
        total -= log_likelihood(model, views.x[n, j] if target == "view" else views.original[n], z)
    assert model(views).total.item() == pytest.approx(total / 12, rel=1e-5)
    assert build(method).target == {"ae": "view", "aaae": "original"}[method]


@pytest.mark.parametrize(("anchor", "views"), [("original", 1), ("original", 3), ("view", 2), ("view", 3)])
def test_cr_vae_is_two_bounds_and_the_divergence_of_view_from_image(anchor: str, views: int) -> None:
    model, data = build("cr-vae", anchor=anchor, consistency=0.7, views=views), batch(views=views)
    data = Views(data.x, torch.rand(6, 1, 8, 8), data.index)
    torch.manual_seed(7)
    terms = model(data)
    torch.manual_seed(7)
    x, augmented = (data.original[:, None], data.x) if anchor == "original" else (data.x[:, :1], data.x[:, 1:])
    J = augmented.shape[1]
    bounds = negative_elbo(model, augmented, augmented, torch.randn(6 * J, D))
    bounds += negative_elbo(model, x, x, torch.randn(6, D))
    divergence = 0.0
    for n, j in itertools.product(range(6), range(J)):
        (mean, deviation), (mean_a, deviation_a) = posterior(model, x[n, 0]), posterior(model, augmented[n, j])
        for m, s, a, t in zip(mean, deviation, mean_a, deviation_a, strict=True):
            divergence += math.log(s / t) + (t**2 + (a - m) ** 2) / (2 * s**2) - 0.5
    assert terms["consistency"].value.item() == pytest.approx(divergence / (6 * J), rel=1e-4)
    assert terms.total.item() == pytest.approx(bounds + 0.7 * divergence / (6 * J), rel=1e-5)


def test_cr_vae_of_one_view_needs_the_image_itself() -> None:
    with pytest.raises(ValueError, match="expected two or more views of each image, got 1"):
        build("cr-vae", anchor="view", views=1)


def test_a_learned_variance_moves_to_the_mean_squared_error() -> None:
    options = {"hidden": [16], "likelihood": {"scale": "learned", "variance": 0.3}}
    model, views = build("ae", decoder=options), batch()
    (scale,) = (weight for name, weight in model.named_parameters() if "likelihood" in name)
    loss = model(views).total
    loss.backward()
    error = (model.reconstruct(views.flat) - views.flat).square().flatten(1).sum(dim=1).mean().item()
    assert scale.item() == pytest.approx(math.log(0.3))
    assert scale.grad.item() == pytest.approx((64 - error / 0.3) / 2, rel=1e-4)  # zero where σ² = error / 64
    fixed = build("ae", decoder={"hidden": [16], "likelihood": {"variance": 0.3}})
    assert not [name for name, _ in fixed.named_parameters() if "likelihood" in name]
    assert fixed(views).total.item() == pytest.approx(loss.item())


def test_standardized_pixels_have_the_loss_of_aasae_on_standardized_images() -> None:
    """0.5 ‖t - h‖² of torchvision's Normalize and of h, the decoder's output, with its gradient (vae.py of AASAE)."""
    images = torch.randint(0, 200, (50, 3, 8, 8), generator=torch.Generator().manual_seed(4)).byte()
    images[:, 1] //= 4
    likelihood = {"mean": "standardized", "variance": 1.0}
    model = build("aasae", (3, 8, 8), decoder={"hidden": [16], "likelihood": likelihood})
    model.begin(Split(images))
    mean, deviation = (
        images.double().div(255).mean(dim=(0, 2, 3)),
        images.double().div(255).std((0, 2, 3), correction=0),
    )
    t = Normalize(mean.tolist(), deviation.tolist())(pixels(images))
    z = torch.randn(50, D, generator=torch.Generator().manual_seed(5))

    def output() -> Tensor:
        return model.decoder.pixels(model.decoder.layers(z)).unflatten(1, (3, 8, 8))

    losses = [-model.decoder(z).log_prob(pixels(images)).mean(), 0.5 * (t - output()).square().flatten(1).sum(1).mean()]
    constant = 64 * sum(math.log(math.sqrt(2 * math.pi) * s) for s in deviation.tolist())
    assert losses[0].item() == pytest.approx(losses[1].item() + constant, rel=1e-5)
    weights = list(model.decoder.parameters())
    for got, expected in zip(*(torch.autograd.grad(loss, weights) for loss in losses), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    in_pixels = mean.float()[:, None, None] + deviation.float()[:, None, None] * output()
    torch.testing.assert_close(model.decode(z), in_pixels)
    again = build("aasae", (3, 8, 8), decoder={"hidden": [16], "likelihood": likelihood})
    again.load_state_dict(model.state_dict())  # a checkpoint has the mean and the deviation
    assert torch.equal(again.decode(z), model.decode(z))
    assert "decoder.likelihood.unit" not in build("aasae").state_dict()
    blank = build("ae", decoder={"hidden": [16], "likelihood": likelihood})
    blank.begin(Split(torch.zeros(4, 1, 8, 8).byte()))
    assert blank(batch()).total.isfinite()


def test_a_run_learns_standardized_pixels_and_goes_on_from_a_checkpoint(tiny_run: Callable[..., Any]) -> None:
    options = {"method": {"decoder": {"hidden": [16], "likelihood": {"mean": "standardized", "variance": 1.0}}}}
    whole = tiny_run("aasae", "whole", evaluators={"reconstruction": {}}, **options)
    scores = {
        name: whole.results[name]["reconstruction"]["scores"]["reconstruction"] for name in ("trained", "untrained")
    }
    assert scores["trained"] < scores["untrained"] < 0.2  # in units of pixels, as the untrained one also knows the mean
    part = tiny_run("aasae", "part", evaluators={"reconstruction": {}}, train={"epochs": 1}, **options)
    assert digest(sslx.resume(part.path, changes={"train.epochs": 2}).path) == digest(whole.path)


def test_pixels_of_other_channels_than_the_images_cannot_be_standardized() -> None:
    model = build("colorization", (3, 8, 8), decoder={"hidden": [16], "likelihood": {"mean": "standardized"}})
    with pytest.raises(ConfigError, match=r"^likelihood.mean: 2 channels are decoded and images have 3, expected "):
        model.begin(Split(torch.zeros(4, 3, 8, 8).byte()))


@pytest.mark.parametrize("use", ["gaussian", "tamed-gaussian", "delta"])
def test_the_last_layer_can_be_without_a_bias(use: str) -> None:
    first, second = (
        build("ae", encoder={"hidden": [16], "posterior": {"use": use, "bias": bias}}) for bias in (True, False)
    )
    names = set(first.state_dict()) - set(second.state_dict())
    assert len(names) == 1 and all(name.startswith("encoder.posterior.") and name.endswith(".bias") for name in names)
    (name,) = names
    first.state_dict()[name].zero_()
    x = batch().flat
    torch.testing.assert_close(first.encoder(x).mean, second.encoder(x).mean)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.encoder.posterior.linear(), second.encoder.posterior.linear(), strict=True)
    )


def test_the_representation_can_be_the_features_below_the_posterior() -> None:
    encoder = {"hidden": [16], "posterior": {"projection": [12, 7]}}
    model, x = build("aasae", representation="features", encoder=encoder).eval(), batch().flat
    torch.testing.assert_close(
        model.represent(x), (x.flatten(1) @ model.encoder.layers[0].weight.T + model.encoder.layers[0].bias).relu()
    )
    head = model.encoder.posterior
    assert [tuple(w.shape) for w in head.parameters() if w.ndim == 2] == [(12, 16), (7, 12), (20, 7)]
    assert build("aasae").eval().represent(x).shape == (12, D)


# --- priors -----------------------------------------------------------------------------------------------------------


def built(prior: Any, dim: int) -> Any:
    torch.manual_seed(3)
    prior.build(Context((1, 8, 8), 10, latent=dim))
    return prior


@pytest.mark.parametrize(
    "prior",
    [
        StandardNormal(),
        GaussianMean(variance=0.5, scale=1.5),
        Mixture(components=3, variance=0.3),
        Hierarchical(components=3, variance=0.3, scale=0.6),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_samples_of_related_views_are_distributed_by_the_density(prior: Any) -> None:
    prior = built(prior, 1)
    if isinstance(prior, Mixture):
        prior.logits.data = torch.tensor([0.5, -1.0, 0.1])
        prior.means.data = torch.tensor([[-2.0], [0.3], [2.5]])
    axis = torch.linspace(-10, 10, 401)
    grid = torch.cartesian_prod(axis, axis)  # (401², J = 2), of one dimension
    mass = prior.log_prob(grid[:, :, None]).exp().detach() * 0.05**2
    assert mass.sum().item() == pytest.approx(1, abs=1e-4)
    mean = (mass[:, None] * grid).sum(dim=0)
    covariance = (mass[:, None] * (grid - mean)).T @ (grid - mean)
    torch.manual_seed(0)
    sample = prior.sample(40_000, views=2).detach()
    assert sample.shape == (40_000, 2, 1) and prior.sample(3).shape == (3, 1, 1)
    torch.testing.assert_close(sample.squeeze(2).mean(dim=0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(sample.squeeze(2).T.cov(), covariance, atol=0.08, rtol=0)  # 4 standard errors or more


def test_gaussian_mean_can_be_plugged_in_as_in_the_code_of_simvae() -> None:
    z = torch.randn(5, 3, 4, dtype=torch.float64)
    a, b = (GaussianMean(variance=0.2, mean="plugged-in").log_prob(z + shift) for shift in (0, 0.5))
    mean = z.mean(dim=1)
    torch.testing.assert_close(a - b, ((mean + 0.5).square() - mean.square()).sum(dim=1) / 2)


def test_a_hierarchical_prior_is_a_mixture_of_normal_distributions_of_all_views_together() -> None:
    prior = built(Hierarchical(components=3, variance=0.3, scale=0.6), 2)
    prior.logits.data = torch.tensor([0.5, -1.0, 0.1])
    z = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(0))  # J = 4
    covariance = np.kron(0.6**2 * np.ones((4, 4)) + 0.3 * np.eye(4), np.eye(2))
    joint = [
        math.log(weight) + multivariate_normal.logpdf(z.flatten(1).numpy(), np.tile(mean, 4), covariance)
        for weight, mean in zip(softmax([0.5, -1.0, 0.1]), prior.means.detach().numpy(), strict=True)
    ]
    np.testing.assert_allclose(prior.joint(z).detach().numpy().T, joint, rtol=1e-5)
    np.testing.assert_allclose(prior.log_prob(z).detach().numpy(), logsumexp(joint, axis=0), rtol=1e-5)


def test_the_pseudo_inputs_of_a_vamp_prior_pass_through_the_encoder_of_the_method() -> None:
    method = build("vae", prior={"use": "vamp", "components": 5})
    images = torch.randint(0, 256, (20, *method.prior.inputs.shape[1:]), dtype=torch.uint8)
    method.begin(Split(images))
    for u in method.prior.inputs:
        assert min((u - image).abs().max() for image in pixels(images)) == 0, "they begin as training images"
    z = torch.randn(4, 2, D)
    q = method.encoder(method.prior.inputs)
    mean, deviation = q.mean.detach().numpy(), q.stddev.detach().numpy()
    joint = [
        [sum(norm.logpdf(view, mean[k], deviation[k]).sum() for view in latents) - math.log(5) for k in range(5)]
        for latents in z.numpy()
    ]
    np.testing.assert_allclose(method.prior(z).detach().numpy(), logsumexp(joint, axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        method.prior.cluster(z).detach().numpy(), log_softmax(joint, axis=1), rtol=1e-4, atol=1e-4
    )
    assert can(method, Clusters) and method.cluster(batch().flat).shape == (len(batch().flat), 5)
    assert method.prior.sample(7, views=3).shape == (7, 3, D)

    method.prior(z).sum().backward()
    assert all(p.grad is not None for p in (method.prior.inputs, *method.encoder.parameters()))
    twin = copy.deepcopy(method)
    torch.nn.init.zeros_(next(twin.encoder.posterior.parameters()))
    assert not torch.equal(twin.prior(z), method.prior(z)), "the copy has the encoder of the copy"
    assert not [name for name in method.prior.state_dict() if "encoder" in name], "the encoder is saved once"
    with pytest.raises(ConfigError, match="vamp: expected a method with an encoder"):
        sslx.make("prior", "vamp").build(Context((1, 8, 8), 10, latent=2))


def test_weights_of_a_mixture_can_stay_uniform() -> None:
    assert built(Mixture(), D).logits.requires_grad
    assert not built(Mixture(weights="uniform"), D).logits.requires_grad


def test_an_improper_prior_says_so() -> None:
    assert not SharedMean().proper and all(prior.proper for prior in (StandardNormal(), GaussianMean(), Mixture()))
    with pytest.raises(NotImplementedError, match="SharedMean is improper"):
        SharedMean().sample(1)


def test_the_aggregate_has_the_moments_of_all_batches_and_draws_by_them() -> None:
    aggregate, mixing = Aggregate(3), torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 0.3]])
    batches = torch.randn(50, 16, 3, generator=torch.Generator().manual_seed(0)) @ mixing + torch.arange(3.0)
    for z in batches:
        aggregate.update(z)
    z = batches.flatten(0, 1).numpy()
    np.testing.assert_allclose(aggregate.mean.numpy(), z.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(aggregate.covariance.numpy(), np.cov(z.T, bias=True), rtol=1e-3, atol=1e-4)
    torch.manual_seed(0)
    drawn = aggregate.sample(20_000)
    torch.testing.assert_close(drawn.mean(dim=0), aggregate.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), aggregate.covariance, atol=0.15, rtol=0)


# --- what can be asked of a model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", GENERATIVE)
def test_every_generative_method_reconstructs_and_samples(method: str) -> None:
    model = build(method).eval()
    assert model.reconstruct(batch().flat).shape == (12, 1, 8, 8)
    assert model.sample(3).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(("method", "own"), [("vae", True), ("simvae", False), ("aasae", False), ("ae", False)])
def test_samples_come_from_the_prior_where_it_was_trained_with(method: str, own: bool) -> None:
    model = build(method).eval()
    model.latents.mean += 5
    torch.manual_seed(0)
    images = model.sample(400)
    torch.manual_seed(0)
    z = torch.randn(400, D) + (0 if own else 5)
    torch.testing.assert_close(images.mean(dim=0), model.decoder(z).mean.mean(dim=0), atol=0.02, rtol=0)


def test_the_density_of_a_linear_model_is_exact_with_its_true_posterior() -> None:
    options = {"hidden": [], "likelihood": {"mean": "linear", "variance": 0.5}}
    model = build("vae", encoder={"hidden": [], "dim": 1}, decoder=options)
    w, b = (p.detach().double() for p in (model.decoder.pixels.weight, model.decoder.pixels.bias))  # (64, 1), (64,)
    variance = 1 / (1 + (w.T @ w) / 0.5)
    gain = variance * w.T / 0.5  # (1, 64)
    moments = model.encoder.posterior.moments
    moments.weight.data = torch.cat([gain, torch.zeros_like(gain)]).float()
    moments.bias.data = torch.cat([-gain @ b, variance.log()[0]]).float()
    x = torch.rand(4, 1, 8, 8)
    covariance = (w @ w.T + 0.5 * torch.eye(64)).numpy()
    expected = multivariate_normal.logpdf(x.flatten(1).double().numpy(), b.numpy(), covariance)
    for _ in range(2):  # whatever the sample of q
        np.testing.assert_allclose(model.log_density(x).detach().numpy(), expected, rtol=1e-4)
    moments.bias.data += 0.5  # any other posterior gives less, on average
    assert torch.stack([model.log_density(x) for _ in range(200)]).mean(dim=0).lt(torch.tensor(expected)).all()


def test_a_model_has_clusters_if_its_prior_has() -> None:
    assert not can(build("vae"), Clusters) and not can(build("simvae"), Clusters)
    model, x = build("simvae", prior={"use": "mixture", "components": 3, "variance": 0.4}).eval(), batch().flat
    model.prior.logits.data = torch.tensor([0.2, -1.0, 0.7])
    log_p = model.cluster(x).detach()
    weights = np.exp([0.2, -1.0, 0.7])
    for image, got in zip(x, log_p, strict=True):
        mean, _ = posterior(model, image)
        joint = [
            w * multivariate_normal.pdf(mean, m, 0.4) for w, m in zip(weights, model.prior.means.tolist(), strict=True)
        ]
        np.testing.assert_allclose(got.exp().numpy(), np.array(joint) / sum(joint), rtol=1e-4, atol=1e-7)


def test_a_finished_run_has_pictures_of_reconstructions_and_samples(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run("vae", "vae")
    with Image.open(run.path / "samples.png") as picture:
        assert picture.size == (2 + 8 * 58, 20 + 2 + 8 * 58)  # 8 pixels, seven times as large, and frames; a title
    with Image.open(run.path / "reconstructions.png") as picture:
        whole = torch.from_numpy(np.array(picture.convert("L")))
    left = whole.shape[1] - (2 + 8 * 58)
    labels = whole[20 + 2 :, :left].unflatten(0, (8, 58))
    assert whole[:20].lt(128).any() and labels.lt(128).flatten(1).any(dim=1).all()  # a title, and labels of all rows
    assert torch.equal(labels[0], labels[2]) and not torch.equal(labels[0], labels[1])
    inside = whole[20 + 2 :, left + 2 :]
    tiles = inside.unflatten(0, (8, 58)).unflatten(2, (8, 58))[:, 3::7, :, 3::7]
    _, test = run.config.dataset.load(Path(), True)
    image, made = tiles[0, :8, 0, :8], tiles[1, :8, 0, :8]
    (index,) = (test.images.squeeze(1) == image).flatten(1).all(dim=1).nonzero()[0]
    reconstruction = run.method().reconstruct(pixels(test.images[index][None]))
    assert (reconstruction * 255 - made).abs().max() <= 0.51
    pictures = {path.name for path in tiny_run("simclr", "simclr").path.glob("*.png")}
    assert not pictures & {"samples.png", "reconstructions.png", "posterior.png"}
    again = tiny_run("vae", "again")
    for name in ("samples.png", "reconstructions.png", "similarity.png", "posterior.png"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()


def test_a_picture_that_fails_costs_a_line(
    tiny_run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from sslx.families.vae import VAE\n\n\n"
        "class Mine(VAE):\n"
        "    def sample(self, n):\n"
        "        raise RuntimeError('out of paint')\n"
    )
    run = tiny_run(f"{file}:Mine", "mine", method={"encoder": {"hidden": [16]}, "decoder": {"hidden": [16]}})
    assert "samples.png: not drawn: RuntimeError: out of paint" in capsys.readouterr().err
    pictures = {path.name for path in run.path.glob("*.png")}
    assert run.results and "reconstructions.png" in pictures and "samples.png" not in pictures


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "stem"),
    [
        ((1, 8, 8), "small"),
        ((1, 28, 28), "small"),
        ((3, 32, 32), "small"),
        ((3, 96, 96), "medium"),
        ((3, 70, 50), "imagenet"),
    ],
)
@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnets_and_their_mirrors_take_images_of_any_size(depth: int, shape: Any, stem: str) -> None:
    network = {"use": f"resnet{depth}", "stem": stem}
    with torch.no_grad():
        model = build("ae", shape, encoder=network, decoder=network).eval()
        assert model.reconstruct(torch.rand(1, *shape)).shape == (1, *shape)
    blocks = [m for m in model.decoder.modules() if isinstance(m, Block)]
    assert len(blocks) == {18: 8, 34: 16, 50: 16}[depth]
    assert not any("Norm" in type(m).__name__ for m in model.decoder.modules())


def test_the_networks_of_aasae_have_its_sizes() -> None:
    projected = {"use": "resnet50", "dim": 128, "posterior": {"projection": [2048]}}
    model = build("aasae", (3, 32, 32), encoder=projected, decoder="resnet50")
    sizes: list[tuple[int, ...]] = []
    for layer in model.encoder.network.layer4, *model.decoder.modules():
        if layer is model.encoder.network.layer4 or isinstance(layer, torch.nn.Upsample):
            layer.register_forward_hook(lambda module, arguments, output: sizes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        model.eval().reconstruct(torch.rand(1, 3, 32, 32))
    assert sizes == [(2048, 4, 4), (2048, 4, 4), (1024, 8, 8), (512, 16, 16), (256, 32, 32), (64, 32, 32)]
    linear = [tuple(w.shape) for w in model.parameters() if w.ndim == 2]
    assert linear == [(2048, 2048), (256, 2048), (2048, 128), (2048, 2048)]


@pytest.mark.parametrize("method", ["simclr", "cr-vae"])
def test_resnets_train_in_any_method(method: str) -> None:
    decoder = {} if method == "simclr" else {"decoder": {"use": "resnet18", "likelihood": {"scale": "learned"}}}
    model = build(method, (3, 16, 16), encoder={"use": "resnet18"}, **decoder)
    model(batch((3, 16, 16), 2)).total.backward()
    assert [name for name, w in model.named_parameters() if w.grad is None or not w.grad.any()] == []


def test_an_option_declared_again_stays_in_its_place() -> None:
    assert list(options_of(type(build("vae"))))[:3] == list(options_of(type(build("ae"))))[:3]
    assert list(options_of(type(build("vae"))))[:3] == ["encoder", "representation", "decoder"]


class Half(Encoder):
    """An encoder that returns its distribution without a posterior part."""

    def build(self, ctx: Context) -> Context:
        return ctx.but(latent=1)

    def forward(self, x: torch.Tensor) -> Delta:
        return Delta(x.flatten(1).mean(dim=1, keepdim=True))


def test_an_encoder_may_return_its_distribution_by_itself() -> None:
    parts = {"encoder": f"{__file__}:Half", "decoder": {"hidden": [4]}}
    model = configure({"method": {"use": "ae", **parts}}).method
    model.build(Context((1, 4, 4), 10))
    assert model.represent(torch.ones(2, 1, 4, 4)).tolist() == [[1.0], [1.0]]
    without = configure({"method": {"use": "ae", "representation": "features", **parts}}).method
    without.build(Context((1, 4, 4), 10))  # it has no features, and gives its latent
    assert without.represent(torch.ones(2, 1, 4, 4)).tolist() == [[1.0], [1.0]]
