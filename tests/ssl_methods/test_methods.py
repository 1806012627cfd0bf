"""Losses, priors and networks against independent computations."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GENERATIVE, SMALL
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from sslx.api import Context, Views, diagonal_normal
from sslx.core.errors import ConfigError
from sslx.core.training.config import configure
from sslx.ssl_methods.parts.objectives import InfoNCE
from sslx.ssl_methods.parts.priors import GaussianMean, Mixture, SharedMean, StandardNormal

N, J, D = 5, 3, 4
METHODS = [*GENERATIVE, "simclr"]


def latents(seed: int = 0) -> Tensor:
    return torch.randn(N, J, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(method: str, shape: tuple[int, int, int] = (1, 8, 8), views: int = 2, **options: Any) -> Any:
    torch.manual_seed(0)
    component = configure({"method": {"use": method, **SMALL.get(method, {}), **options}}).method
    component.build(Context(shape, samples=100, views=views))
    return component


def batch(shape: tuple[int, int, int] = (1, 8, 8), n: int = 6, views: int = 2) -> Views:
    x = torch.rand(n, views, *shape, generator=torch.Generator().manual_seed(1))
    return Views(x, x[:, 0], torch.arange(n))


# --- priors -----------------------------------------------------------------------------------------------------------


def test_standard_normal_is_a_normal_density() -> None:
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(latents()).sum(dim=(1, 2))
    torch.testing.assert_close(StandardNormal().log_prob(latents()), expected)


def test_shared_mean_is_the_spread_of_all_pairs() -> None:
    z = latents()
    pairs = (z[:, :, None] - z[:, None]).square().sum(dim=(1, 2, 3)) / (2 * J)  # equals the spread around the mean
    torch.testing.assert_close(SharedMean(variance=0.3).log_prob(z), -pairs / (2 * 0.3))


@pytest.mark.parametrize(("variance", "scale"), [(0.15, 1.0), (2.0, 0.3)])
def test_gaussian_mean_is_a_multivariate_normal_over_the_views(variance: float, scale: float) -> None:
    covariance = variance * torch.eye(J, dtype=torch.float64) + scale**2  # between the views, in each dimension
    expected = MultivariateNormal(torch.zeros(J, dtype=torch.float64), covariance)
    got = GaussianMean(variance=variance, scale=scale).log_prob(latents())
    torch.testing.assert_close(got, expected.log_prob(latents().mT).sum(dim=1), atol=1e-9, rtol=1e-9)


def test_mixture_is_the_sum_over_its_clusters() -> None:
    prior = Mixture(components=3, variance=0.4)
    prior.build(Context((1, 8, 8), 10, latent=D))
    prior.double()
    prior.logits.data = torch.tensor([0.2, -1.0, 0.7], dtype=torch.float64)
    weights = prior.logits.exp() / prior.logits.exp().sum()
    total = torch.zeros(N, dtype=torch.float64)
    for y in range(3):
        cluster = MultivariateNormal(prior.means[y], 0.4 * torch.eye(D, dtype=torch.float64))
        total += weights[y] * cluster.log_prob(latents()).sum(dim=1).exp()
    torch.testing.assert_close(prior.log_prob(latents()), total.log(), atol=1e-9, rtol=1e-9)


def test_hard_assignment_is_k_means() -> None:
    """Of single views and equal weights: its value is the inertia, and the centres of scikit-learn are its optimum."""
    z = torch.randn(60, 1, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = KMeans(3, n_init=5, random_state=0, tol=0).fit(z[:, 0])
    prior = Mixture(components=3, variance=0.4, weights="uniform", assignment="hard")
    prior.build(Context((1, 8, 8), 10, latent=D))
    prior.double().means.data = torch.from_numpy(found.cluster_centers_)
    loss = -prior.log_prob(z).sum()
    constant = 60 * (math.log(3) + D / 2 * math.log(2 * math.pi * 0.4))
    assert loss.item() == pytest.approx(found.inertia_ / (2 * 0.4) + constant, rel=1e-9)
    loss.backward()
    assert prior.means.grad is not None and prior.means.grad.abs().max() < 1e-9
    assert prior.cluster(z).argmax(dim=1).tolist() == found.labels_.tolist()


def test_hard_assignment_is_the_likeliest_cluster_of_a_whole_set() -> None:
    soft, hard = (Mixture(components=3, variance=9.0, assignment=name) for name in ("soft", "hard"))
    for prior in (soft, hard):
        torch.manual_seed(0)
        prior.build(Context((1, 8, 8), 10, latent=D))
        prior.double().logits.data = torch.tensor([0.2, -1.0, 0.7], dtype=torch.float64)
    each = (
        torch.stack(
            [
                MultivariateNormal(mean, 9 * torch.eye(D, dtype=torch.float64)).log_prob(latents()).sum(1)
                for mean in hard.means
            ]
        )
        + hard.logits.log_softmax(dim=0)[:, None]
    )
    torch.testing.assert_close(hard.log_prob(latents()), each.max(dim=0).values)
    assert (hard.log_prob(latents()) < soft.log_prob(latents())).all()
    torch.testing.assert_close(hard.cluster(latents()), soft.cluster(latents()))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_the_entropy_term_pushes_every_log_variance_up_by_a_half() -> None:
    log_variance = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    (-diagonal_normal(torch.zeros(N, D, dtype=torch.float64), log_variance).entropy().sum()).backward()
    torch.testing.assert_close(log_variance.grad, torch.full((N, D), -0.5, dtype=torch.float64))
    method = build("simvae")
    method(batch())["entropy"].value.backward()
    torch.testing.assert_close(method.encoder.posterior.moments.bias.grad[10:], torch.full((10,), -0.5))


@pytest.mark.parametrize(("method", "prior"), [("vae", "normal"), ("simvae", "shared")])
def test_the_elbo_is_squared_error_entropy_and_prior_in_nats(method: str, prior: str) -> None:
    model, views = build(method), batch()
    torch.manual_seed(7)
    terms = model(views)
    torch.manual_seed(7)
    x = views.x.flatten(0, 1).flatten(1)  # (B, pixels)
    moments = model.encoder.posterior.moments(model.encoder.layers(x))
    mean, log_variance = moments[:, :10], moments[:, 10:]
    z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    decoded = model.decoder.pixels(model.decoder.layers(z)).sigmoid()
    error = (x - decoded).square().sum(dim=1) / (2 * 0.02) + 0.5 * 64 * math.log(2 * math.pi * 0.02)
    entropy = 0.5 * (log_variance + math.log(2 * math.pi * math.e)).sum(dim=1)
    pairs = z.view(-1, 2, 10)
    if prior == "normal":
        log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=1).mean()
    else:
        log_prior = -((pairs[:, 0] - pairs[:, 1]).square().sum(dim=1) / 2 / (2 * 0.15)).mean() / 2
    torch.testing.assert_close(terms["reconstruction"].value, error.mean())
    torch.testing.assert_close(terms["entropy"].value, -entropy.mean())
    torch.testing.assert_close(terms["prior"].value, -log_prior)
    torch.testing.assert_close(terms.total, error.mean() - entropy.mean() - log_prior)


def test_vae_with_the_shared_mean_is_simvae_bit_for_bit(tiny_run: Callable[..., Any]) -> None:
    options = {"encoder": {"hidden": [16]}, "decoder": {"hidden": [16]}}
    simvae = tiny_run("simvae", "simvae", views={"count": 3})
    vae = tiny_run("vae", "vae", views={"count": 3}, method={**options, "prior": "shared-mean"})
    assert simvae.folder.metrics() == vae.folder.metrics() != []
    assert simvae.results == vae.results


def nt_xent(z: Tensor, temperature: float) -> float:
    """The loss in loops, for any number of views."""
    z = torch.nn.functional.normalize(z, dim=2)
    n, j, _ = z.shape
    losses = []
    for a in range(n):
        for i in range(j):
            others = [(b, k) for b in range(n) for k in range(j) if (b, k) != (a, i)]
            total = sum(math.exp(float(z[a, i] @ z[b, k]) / temperature) for b, k in others)
            for k in range(j):
                if k != i:
                    losses.append(-math.log(math.exp(float(z[a, i] @ z[a, k]) / temperature) / total))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("views", [2, 3])
def test_info_nce_is_the_contrastive_loss_in_loops(views: int) -> None:
    z = torch.randn(5, views, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = InfoNCE(temperature=0.3)(z, z)
    assert float(got["contrast"].value) == pytest.approx(nt_xent(z, 0.3), abs=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_every_parameter(method: str) -> None:
    model = build(method)
    model(batch()).total.backward()
    assert [name for name, w in model.named_parameters() if w.grad is None or not w.grad.any()] == []


def test_random_has_nothing_to_train() -> None:
    assert not any(weight.requires_grad for weight in build("random").parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_overfits_one_batch(method: str) -> None:
    model, views = build(method), batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.manual_seed(0)
    losses = []
    for _ in range(150):
        loss = model(views).total
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drop = losses[0] - sum(losses[-10:]) / 10
    # What one batch can gain: the contrast of 12 views has a floor, the likelihood of 64 pixels has none near.
    assert drop > (0.5 if method == "simclr" else 50)


@pytest.mark.parametrize("method", [*METHODS, "random"])
def test_the_representation_is_a_vector_for_each_image(method: str) -> None:
    model = build(method).eval()
    z = model.represent(batch().flat)
    assert z.shape == (12, model.encoder.layers[0].out_features if model.representation == "features" else 10)
    assert torch.equal(z, model.represent(batch().flat))
    assert model.representations()["latent"](batch().flat).shape == (12, 10)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_the_mlp_is_that_of_table_3() -> None:
    model = build("vae", (1, 28, 28), encoder={"hidden": (500, 500, 2000)}, decoder={"hidden": (2000, 500, 500)})
    shapes = [tuple(w.shape) for w in model.parameters() if w.ndim == 2]
    encoder = [(500, 784), (500, 500), (2000, 500), (20, 2000)]  # the last: mean and log-variance of 10 dimensions
    assert sorted(shapes) == sorted([*encoder, (2000, 10), (500, 2000), (500, 500), (784, 500)])


@pytest.mark.parametrize("network", ["mlp", "resnet8"])
def test_layers_of_the_networks_of_gedi_can_be_normalized(network: str) -> None:
    """With batch statistics, every activation but the first of an image has mean 0 and variance 1 in each channel."""
    options = {"use": network, **({"hidden": (9, 7)} if network == "mlp" else {"width": 6, "dim": 0})}
    plain, normalized = (
        build("barlow-twins", (3, 8, 8), encoder={**options, "norm": norm}).encoder for norm in ("none", "batch")
    )
    assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert not [name for name in plain.state_dict() if "running" in name]
    layers = [m for m in normalized.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(layers) == (2 if network == "mlp" else 8)  # Table 8 has eight convolutions of 3x3
    seen: list[Tensor] = []
    for layer in layers:
        layer.register_forward_hook(
            lambda module, inputs, output: seen.append(output.transpose(0, 1).flatten(1).clone())
        )
    normalized.train()
    normalized(batch((3, 8, 8), 50).flat * 30)
    assert len(seen) == len(layers)
    for output in seen:
        torch.testing.assert_close(output.mean(dim=1), torch.zeros(len(output)), atol=1e-4, rtol=0)
        torch.testing.assert_close(output.var(dim=1, correction=0), torch.ones(len(output)), atol=1e-2, rtol=0)
    normalized.eval()
    x = batch((3, 8, 8)).flat
    torch.testing.assert_close(normalized(x).mean[:1], normalized(x[:1]).mean)  # an image alone


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 40, 24)])
def test_the_small_resnet_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    model = build("vae", shape, encoder={"use": "resnet18-small"}, decoder={"use": "resnet18-small"})
    x = torch.rand(4, *shape)
    assert model.encoder(x).mean.shape == (4, 10) and model.reconstruct(x).shape == x.shape
    assert model(batch(shape, 2)).total.isfinite()


def test_the_small_resnet_has_the_sizes_of_table_4() -> None:
    model = build("vae", (3, 64, 64), encoder={"use": "resnet18-small", "dim": 64}, decoder={"use": "resnet18-small"})
    assert model.encoder.posterior.moments.weight.shape == (2 * 64, 4096)  # 256 channels of 4x4
    assert model.decoder.enlarge.weight.shape == (256 * 4 * 4, 64)


def test_weights_of_timm_that_cannot_be_downloaded_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^encoder.pretrained: no weights of timm:resnet10t on this computer"):
        build("simclr", (3, 32, 32), encoder={"use": "timm:resnet10t", "pretrained": True})


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_any_timm_model_can_be_the_encoder(name: str) -> None:
    model = build("simclr", (3, 32, 32), encoder={"use": f"timm:{name}", "dim": 5})
    assert model.encoder.model == name
    assert model(batch((3, 32, 32), 3)).total.isfinite()
    assert model.eval().representations()["latent"](torch.rand(2, 3, 32, 32)).shape == (2, 5)
