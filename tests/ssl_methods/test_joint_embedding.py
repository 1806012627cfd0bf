"""Every objective against loops in float64, and what a teacher, a queue, a bank and a stopped gradient promise."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ENCODER, SMALL
from numpy.typing import NDArray
from torch import Tensor

import sslx
from sslx.api import ConfigError, Context, Views
from sslx.core.training.config import configure
from sslx.plugins.registry import registry

N, J, V, D = 6, 2, 3, 4  # V: two views and a local crop
SHAPE = (1, 8, 8)
Array = NDArray[np.float64]


def embeddings(views: int = V, seed: int = 0) -> Tensor:
    return torch.randn(N, views, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective(name: str, **options: Any) -> Any:
    torch.manual_seed(3)
    built = registry().resolve("objective", name).cls(**options)
    built.build(Context(SHAPE, samples=100, views=J, latent=D))
    return built.double()


def method(name: str, views: int = 2, samples: int = 100, steps: int = 10, **options: Any) -> Any:
    torch.manual_seed(0)
    built = configure({"method": {"use": name, **SMALL.get(name, ENCODER), **options}}).method
    built.build(Context(SHAPE, samples=samples, views=views, steps=steps))
    return built


def batch(n: int = N, views: int = J, seed: int = 1, local: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, views, *SHAPE, generator=generator)
    crops = torch.rand(n, local, *SHAPE, generator=generator) if local else None
    return Views(x, x[:, 0], torch.arange(n), crops)


# --- losses in loops --------------------------------------------------------------------------------------------------


def unit(x: Array) -> Array:
    return x / math.sqrt(float(x @ x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


PAIRS = [(v, j) for v in range(V) for j in range(J) if v != j]


def average(value: Callable[[int, int], float]) -> float:
    """Over all pairs of an online and a target view that differ."""
    return sum(value(v, j) for v, j in PAIRS) / len(PAIRS)


def per_image(value: Callable[[int, int, int], float]) -> float:
    return average(lambda v, j: sum(value(n, v, j) for n in range(N)) / N)


def info_nce(q: Array, k: Array, module: Any) -> float:
    def one(n: int, v: int, j: int) -> float:
        s = {(m, i): float(unit(q[n, v]) @ unit(k[m, i])) / 0.7 for m in range(N) for i in range(J)}
        rest = sum(math.exp(s[m, i]) for m, i in s if (m, i) != (n, v))
        return math.log(rest) - s[n, j]

    return per_image(one)


def distance_nce(q: Array, k: Array, module: Any) -> float:
    def one(n: int, v: int, j: int) -> float:
        s = {(m, i): -float(((q[n, v] - k[m, i]) ** 2).sum()) / 0.7 for m in range(N) for i in range(J)}
        return math.log(sum(math.exp(s[m, i]) for m, i in s if (m, i) != (n, v))) - s[n, j]

    return per_image(one)


def queue_nce(q: Array, k: Array, module: Any) -> float:
    def one(n: int, v: int, j: int) -> float:
        positive = math.exp(unit(q[n, v]) @ unit(k[n, j]) / 0.2)
        negatives = sum(math.exp(unit(q[n, v]) @ old / 0.2) for old in module.queue.numpy())
        return -math.log(positive / (positive + negatives))

    return per_image(one)


def key_nce(q: Array, k: Array, module: Any) -> float:
    def one(n: int, v: int, j: int) -> float:
        s = [float(unit(q[n, v]) @ unit(k[m, j])) / module.temperature for m in range(N)]
        return -2 * module.temperature * math.log(softmax(np.array(s))[n])

    return per_image(one)


def neighbour_nce(q: Array, k: Array, module: Any) -> float:
    def one(n: int, v: int, j: int) -> float:
        nearest = min(module.queue.numpy(), key=lambda old: float(((old - unit(k[n, j])) ** 2).sum()))
        return -math.log(softmax(np.array([nearest @ unit(q[m, v]) / 0.1 for m in range(N)]))[n])

    return per_image(one)


def dcl(q: Array, k: Array, module: Any) -> float:
    def one(n: int, v: int, j: int) -> float:
        s = {(m, i): float(unit(q[n, v]) @ unit(k[m, i])) / module.temperature for m in range(N) for i in range(J)}
        return math.log(sum(math.exp(s[m, i]) for m, i in s if m != n)) - s[n, j]

    return per_image(one)


def coding_rate(q: Array, k: Array, module: Any) -> float:
    z, rate, cosine = np.stack([[unit(x) for x in image] for image in q]), 0.0, 0.0
    views = q.shape[1]
    for v in range(views):
        eigenvalues = np.linalg.svd(z[:, v], compute_uv=False) ** 2
        rate += sum(math.log(1 + D / (N * 0.2) * each) for each in eigenvalues) / 2 / views
        cosine += sum(float(unit(z[n, v]) @ unit(z[n].mean(axis=0))) for n in range(N)) / N / views
    return -rate - 200 * cosine


def cosine(q: Array, k: Array, module: Any) -> float:
    return per_image(lambda n, v, j: float(((unit(q[n, v]) - unit(k[n, j])) ** 2).sum()))


def vicreg(q: Array, k: Array, module: Any) -> float:
    s = per_image(lambda n, v, j: float(((q[n, v] - k[n, j]) ** 2).mean()))
    v = c = 0.0
    for view in range(V):  # twice the mean: the sum over the views of a pair
        cov = np.cov(q[:, view].T)
        v += 2 / V * sum(max(0.0, 1 - math.sqrt(cov[d, d] + 1e-4)) for d in range(D)) / D
        c += 2 / V * sum(cov[d, e] ** 2 for d, e in permutations(range(D), 2)) / D
    return 25 * s + 25 * v + c


def barlow_twins(q: Array, k: Array, module: Any) -> float:
    def one(v: int, j: int) -> float:
        total = 0.0
        for d in range(D):
            for e in range(D):
                a, b = q[:, v, d], k[:, j, e]
                C = ((a - a.mean()) * (b - b.mean())).mean() / math.sqrt((a.var() + 1e-5) * (b.var() + 1e-5))
                total += (1 - C) ** 2 if d == e else 0.005 * C**2
        return total

    return average(one)


def w_mse(q: Array, k: Array, module: Any) -> float:
    def whitened(x: Array) -> Array:
        shrunk = (1 - 1e-3) * np.cov(x.T) + 1e-3 * np.eye(D)
        return (np.linalg.inv(np.linalg.cholesky(shrunk)) @ (x - x.mean(axis=0)).T).T

    w = {v: whitened(q[:, v]) for v in range(V)}
    t = {j: whitened(k[:, j]) for j in range(J)}
    return per_image(lambda n, v, j: float(((unit(w[v][n]) - unit(t[j][n])) ** 2).sum()))


def cor_info_max(q: Array, k: Array, module: Any) -> float:
    attraction = per_image(lambda n, v, j: float(((unit(q[n, v]) - unit(k[n, j])) ** 2).mean()))
    volume = 0.0
    for j in range(J):
        z = np.stack([unit(q[n, j]) for n in range(N)])
        mu = 0.99 * z.mean(axis=0)  # the means started at zero
        R = 0.01 * np.eye(D) + 0.99 * sum(np.outer(row - mu, row - mu) for row in z) / N
        volume += np.linalg.slogdet(R + 1e-6 * np.eye(D))[1]
    return 250 * attraction - volume / D


def sigreg(q: Array, k: Array, module: Any) -> float:
    """The integral of T to infinity is a sum over pairs of images, as that of each product is a Gaussian's."""

    def statistic(x: Array) -> float:
        pairs = np.exp(-((x[:, None] - x) ** 2) / 2).sum() * math.sqrt(2 * math.pi) / len(x)
        single = 2 * math.sqrt(math.pi) * np.exp(-(x**2) / 4).sum()
        return float(pairs - single + len(x) * math.sqrt(2 * math.pi / 3))

    directions = module.directions(D).numpy()
    mean = k.mean(axis=1, keepdims=True)
    views = q.shape[1]
    sketched = sum(statistic(q[:, v] @ a) for v in range(views) for a in directions.T) / (views * directions.shape[1])
    return 0.98 * float(((q - mean) ** 2).mean()) + 0.02 * sketched


def swav(q: Array, k: Array, module: Any) -> float:
    codes = {}
    for j in range(J):
        Q = np.exp(k[:, j] / 0.05)
        for _ in range(3):
            Q /= Q.sum(axis=0, keepdims=True)
            Q /= Q.sum(axis=1, keepdims=True)
        codes[j] = Q
    return per_image(lambda n, v, j: -float(codes[j][n] @ np.log(softmax(q[n, v] / 0.1))))


def dino(q: Array, k: Array, module: Any) -> float:
    centre = module.centre.numpy()
    return per_image(
        lambda n, v, j: -float(softmax((k[n, j] - centre) / 0.04) @ np.log(softmax(q[n, v] / 0.1))),
    )


def proto_cpc(q: Array, k: Array, module: Any) -> float:
    p = {(n, j): softmax(k[n, j] / 0.04) for n in range(N) for j in range(J)}
    prior = sum(p.values()) / (N * J)

    def one(n: int, v: int, j: int) -> float:
        s = q[n, v] / 0.1
        return math.log(sum(prior[c] * math.exp(s[c]) for c in range(D))) - float(p[n, j] @ s)

    return per_image(one)


LOSSES = {
    "info-nce": info_nce,
    "distance-nce": distance_nce,
    "queue-nce": queue_nce,
    "key-nce": key_nce,
    "neighbour-nce": neighbour_nce,
    "dcl": dcl,
    "coding-rate": coding_rate,
    "cosine": cosine,
    "vicreg": vicreg,
    "barlow-twins": barlow_twins,
    "w-mse": w_mse,
    "cor-info-max": cor_info_max,
    "sigreg": sigreg,
    "swav": swav,
    "dino": dino,
    "proto-cpc": proto_cpc,
}
TOLERANCE = {"sigreg": 1e-6}  # of its integral, which the loss computes at a few points
SCORES = ("swav", "dino", "proto-cpc")


def test_every_objective_has_its_loop() -> None:
    own = [n for n, p in registry().providers("objective").items() if p[0].plugin.distribution == "sslx"]
    assert sorted(own) == sorted(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_an_objective_is_its_loss_in_loops(name: str) -> None:
    module, q, k = objective(name), embeddings(), embeddings(J, seed=1)
    if name == "dino":
        module.centre += torch.tensor([0.1, -0.2, 0.0, 0.3])
    expected = LOSSES[name](q.numpy(), k.numpy(), module)
    assert float(module(q, k).total) == pytest.approx(expected, rel=TOLERANCE.get(name, 1e-9))


@pytest.mark.parametrize("name", LOSSES)
def test_an_objective_is_finite_for_one_image_and_for_equal_ones(name: str) -> None:
    for z in (embeddings(J)[:1], torch.ones(N, J, D, dtype=torch.float64)):
        z.requires_grad_()
        loss = objective(name)(z, z).total
        loss.backward()
        assert loss.isfinite() and z.grad is not None and z.grad.isfinite().all()


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in SCORES])
def test_any_objective_on_embeddings_works_in_any_wiring(name: str) -> None:
    for owner in ("simclr", "byol"):
        terms = method(owner, objective=name)(batch())
        assert terms.total.isfinite() and (set(terms) == set(objective(name)(embeddings(J), embeddings(J))))


QUEUED = ("queue-nce", "neighbour-nce")
PAIRED = [name for name in LOSSES if name not in (*SCORES, *QUEUED)]


@pytest.mark.parametrize("name", PAIRED)
def test_an_objective_of_two_batches_is_its_loss_in_loops(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "V", J)
    monkeypatch.setitem(globals(), "PAIRS", [(0, 1), (1, 0)])
    options = {"temperature": 0.7} if name.endswith("nce") else {}
    z, loss = embeddings(J).requires_grad_(), sslx.make("objective", name, **options)
    state = torch.random.get_rng_state()
    found = loss(z[:, 0], z[:, 1])
    assert torch.equal(torch.random.get_rng_state(), state)
    q = z.detach().numpy()
    assert found.shape == () and found.item() == pytest.approx(LOSSES[name](q, q, loss), rel=TOLERANCE.get(name, 1e-9))
    found.backward()
    assert z.grad is not None and z.grad.isfinite().all() and z.grad.abs().sum() > 0
    loss.after_step(0)


@pytest.mark.parametrize("name", PAIRED)
def test_an_objective_of_two_batches_is_what_a_method_computes(name: str) -> None:
    model, views = method("simclr", objective=name), batch()
    z = model.embeddings(views)
    assert torch.equal(sslx.make("objective", name)(z[:, 0], z[:, 1]), model(views).total)
    half = sslx.make("objective", name)(z[:, 0].bfloat16(), z[:, 1].bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sslx.make("objective", name)(z[:, 0].bfloat16(), z[:, 1].bfloat16()), half)
    assert half.dtype == torch.float32


def test_a_stopped_gradient_makes_a_target_of_the_other_batch() -> None:
    p, z, loss = embeddings(J).requires_grad_(), embeddings(J, seed=1), sslx.make("objective", "cosine")
    both = torch.stack([p[:, 0], p[:, 1]], dim=1)
    expected = torch.autograd.grad(loss(both, z).total, p)[0]  # SimSiam: predictions of stopped embeddings
    alone = (loss(p[:, 0], z[:, 1]) + loss(p[:, 1], z[:, 0])) / 2
    torch.testing.assert_close(torch.autograd.grad(alone, p)[0], expected)


def test_an_objective_says_what_it_needs_beside_two_batches() -> None:
    z = torch.randn(N, D)
    for name in SCORES:
        with pytest.raises(ConfigError, match=r"Loss: two batches of embeddings are not enough; .* K prototypes"):
            sslx.make("objective", name)(z, z)
    for name in QUEUED:
        with pytest.raises(ConfigError, match="NCE: two batches of embeddings are not enough; it needs a queue"):
            sslx.make("objective", name)(z, z)
    for a, b in ((z, z[:3]), (z[:1], z[:1]), (z[0], z[0])):
        with pytest.raises(ConfigError, match=r"InfoNCE: expected two batches of embeddings \(N, D\) with N >= 2"):
            sslx.make("objective", "info-nce")(a, b)


def test_an_objective_on_embeddings_is_refused_where_scores_are_needed() -> None:
    with pytest.raises(ConfigError, match="objective: vicreg is not an Assignment"):
        method("swav", objective="vicreg")


def test_one_view_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^views.count: BYOL relates views, expected at least 2, got 1$"):
        method("byol", views=1)
    with pytest.raises(ConfigError, match=r"^predictor: expected a last width of 8, as of z, got 5$"):
        method("byol", predictor=[5])


# --- parts of the wiring ----------------------------------------------------------------------------------------------


def step(model: Any, views: Views, number: int, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(views).total.backward()
    optimizer.step()
    model.after_step(number)


@pytest.mark.parametrize("name", ["byol", "moco", "dino", "proto-cpc"])
def test_a_teacher_is_the_moving_average_of_the_network(name: str) -> None:
    model = method(name, momentum=[0.8, 1.0], steps=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    online = [*model.encoder.parameters(), *model.head.parameters()]
    expected = [w.detach().clone() for w in online]
    assert all(torch.equal(a, b) for a, b in zip(model.teacher.parameters(), expected, strict=True))
    for number, m in enumerate([0.8, 1 - 0.2 * (math.cos(math.pi / 4) + 1) / 2, 0.9]):
        step(model, batch(seed=number), number, optimizer)
        expected = [m * old + (1 - m) * new.detach() for old, new in zip(expected, online, strict=True)]
        for got, want in zip(model.teacher.parameters(), expected, strict=True):
            torch.testing.assert_close(got, want)
    assert not any(torch.equal(a, b) for a, b in zip(model.teacher.parameters(), online, strict=True))


@pytest.mark.parametrize("name", ["barlow-twins", "vicreg", "byol", "swav"])
def test_embeddings_can_be_scaled_to_length_1(name: str) -> None:
    """In both branches: the loss is then the same for a head whose output is scaled by any numbers."""
    model, plain = method(name, normalize=True).eval(), method(name).eval()
    z = model.embed(batch().flat)
    if name == "swav":  # whose prototypes scale embeddings anyway
        torch.testing.assert_close(z, plain.embed(batch().flat))
    else:
        torch.testing.assert_close(z, torch.nn.functional.normalize(plain.embed(batch().flat), dim=1))
    before = model(batch()).total
    linear = [model.head, *(model.teacher[1:] if name == "byol" else [])]
    with torch.no_grad():
        for layers in linear:
            for weight in [layer for layer in layers if isinstance(layer, torch.nn.Linear)][-1].parameters():
                weight *= 7
    torch.testing.assert_close(model(batch()).total, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["byol", "simsiam", "moco-v2", "moco-v3", "nnclr", "dino", "proto-cpc"])
def test_no_gradient_flows_through_the_target(name: str) -> None:
    """The gradient is that of a loss whose target is a constant."""
    model, views = method(name, norm="none"), batch(local=1)
    model(views).total.backward()
    frozen = copy.deepcopy(model)
    with torch.no_grad():
        f, g = model.teacher if name not in ("simsiam", "nnclr") else (model.encoder, model.head)
        target = views.group(g(f(views.flat).mean))
    frozen.zero_grad()
    q = frozen.predict(frozen.embeddings(views).flatten(0, 1)).view(N, J + 1, -1)
    frozen.objective(q, target).total.backward()
    for (key, w), other in zip(model.named_parameters(), frozen.parameters(), strict=True):
        assert (w.grad is None) == key.startswith("teacher")
        torch.testing.assert_close(w.grad, other.grad, msg=key)


def test_swapped_codes_have_no_gradient() -> None:
    online, target = embeddings(J).requires_grad_(), embeddings(J, seed=1).requires_grad_()
    objective("swav")(online, target).total.backward()
    assert online.grad is not None and target.grad is None


def test_a_queue_of_neighbours_holds_the_first_view_of_each_image() -> None:
    module = objective("neighbour-nce", queue_length=15)
    before, first, second = module.queue.clone(), embeddings(J, seed=1), embeddings(J, seed=2)
    module(first, second)
    assert torch.equal(module.queue, before)  # until the step is made
    module.after_step(0)
    assert torch.equal(module.queue, torch.cat([torch.nn.functional.normalize(second[:, 0], dim=1), before])[:15])


def test_normal_embeddings_are_near_the_minimum_of_sigreg_in_every_step() -> None:
    module, z = (
        objective("sigreg", count=64),
        torch.randn(800, 1, D, generator=torch.Generator().manual_seed(0)).double(),
    )
    first = module.directions(D)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(64, dtype=torch.float64))
    assert first.mean(dim=1).abs().max() < 0.3 and ((first @ first.T) / 64 * D - torch.eye(D)).abs().max() < 0.6
    near = float(module.distance(z))
    assert near < 2 and all(float(module.distance(far)) > 10 * near for far in (0.5 * z, z + 1, z.sign(), 0 * z))
    module.after_step(0)
    assert not torch.equal(module.directions(D), first) and float(module.distance(z)) < 2


def test_a_queue_holds_the_newest_keys_first_and_nothing_of_a_step_that_failed() -> None:
    module = objective("queue-nce", queue_length=15)
    before = module.queue.clone()
    first, second = embeddings(J, seed=1), embeddings(J, seed=2)
    module(first, first)
    assert torch.equal(module.queue, before)  # until the step is made
    for number, keys in enumerate((first, second)):
        module(keys, keys)
        module.after_step(number)
    a, b = (torch.nn.functional.normalize(z, dim=2).flatten(0, 1) for z in (first, second))
    assert torch.equal(module.queue, torch.cat([b, a[:3]]))


def test_codes_are_balanced_with_the_queue_once_it_is_full() -> None:
    with_queue, without = objective("swav", queue_length=2 * N), objective("swav")
    z = embeddings(J)
    losses = []
    for number in range(3):
        losses.append(float(with_queue(z, z).total))
        with_queue.after_step(number)
        assert torch.equal(with_queue.queue[:, :N], z.transpose(0, 1))
    assert losses[0] == losses[1] == float(without(z, z).total)  # not yet full
    # With copies of the batch in the queue each cluster is as balanced as without it.
    assert losses[2] == pytest.approx(losses[0], rel=1e-9)


def test_the_centre_is_the_moving_average_of_the_teachers_scores() -> None:
    module, expected = objective("dino"), torch.zeros(D, dtype=torch.float64)
    for number in range(3):
        target = embeddings(J, seed=number)
        module(target, target)
        module.after_step(number)
        expected = 0.9 * expected + 0.1 * target.mean(dim=(0, 1))
    torch.testing.assert_close(module.centre, expected)


def test_the_bank_remembers_each_image() -> None:
    """An image counts from its second visit on, and each visit moves its row."""
    model, seen, v = method("instance-discrimination", samples=9), [7, 2, 5], np.zeros((9, 8))
    for number, indices in enumerate([seen, seen, [5, 7, 8]]):
        views = batch(n=3, seed=number)
        views = Views(views.x, views.original, torch.tensor(indices))
        z = torch.nn.functional.normalize(views.group(model.embed(views.flat)), dim=2).detach().double().numpy()
        losses = [0.0]
        for n, j in np.ndindex(3, J):
            scores = [math.exp(z[n, j] @ row / 0.07) for row in v]
            if v[indices[n]].any():
                losses.append(-math.log(scores[indices[n]] / sum(scores)))
        loss = sum(losses) / max(1, len(losses) - 1)
        assert model(views).total.item() == pytest.approx(loss, rel=1e-4)
        model.after_step(number)
        for n, i in enumerate(indices):
            v[i] = unit(0.5 * v[i] + 0.5 * z[n].mean(axis=0))
        np.testing.assert_allclose(model.bank.numpy(), v, atol=1e-6)


@pytest.mark.parametrize("name", ["deep-cluster", "sela"])
def test_clusters_come_from_the_bank_and_are_predicted(name: str) -> None:
    model, views = method(name, samples=N, clusters=3), batch()
    model.before_epoch(0)
    assert (model.labels == -1).all() and model(views).total.item() == 0  # nothing was seen yet
    model.after_step(0)
    torch.manual_seed(0)
    model.before_epoch(1)
    assert (model.labels >= 0).all() and len(model.labels.unique()) > 1
    if name == "sela":
        Q = model.bank.double().numpy() ** 25
        for _ in range(20):
            Q /= Q.sum(axis=0, keepdims=True)
            Q /= Q.sum(axis=1, keepdims=True)
        assert model.labels.tolist() == Q.argmax(axis=1).tolist()
    else:
        nearest = [max(range(3), key=lambda c: float(row @ model.centroids[c])) for row in model.bank]
        assert model.labels.tolist() == nearest
        torch.testing.assert_close(model.centroids.norm(dim=1), torch.ones(3))
    log_p = model.cluster(views.flat).detach().unflatten(0, (N, J))
    torch.testing.assert_close(log_p.exp().sum(dim=2), torch.ones(N, J))
    expected = -sum(float(log_p[n, j, model.labels[n]]) for n in range(N) for j in range(J)) / (N * J)
    assert model(views).total.item() == pytest.approx(expected, rel=1e-5)
    before = model.labels.clone()
    torch.manual_seed(0)
    model.before_epoch(1)
    assert torch.equal(model.labels, before)  # a function of the bank and the seed
    with pytest.raises(ConfigError, match="clusters: expected at most 6, the images there are, got 7"):
        method(name, samples=N, clusters=7)


def test_local_crops_are_seen_by_the_online_branch_alone() -> None:
    model, seen = method("dino"), []
    model.objective.forward = lambda online, target: seen.append((online, target))
    views = batch(local=2)
    model(views)
    (online, target), z = seen[0], model.embed(views.local.flatten(0, 1)).unflatten(0, (N, 2))
    assert online.shape == (N, J + 2, 4) and target.shape == (N, J, 4)
    torch.testing.assert_close(online[:, J:], z)


@pytest.mark.parametrize("name", ["swav", "dino", "proto-cpc"])
def test_prototypes_cluster_images(name: str) -> None:
    model, x = method(name).eval(), batch().flat
    directions = model.head[-1].weight
    z = model.head[:-1](model.encoder(x).mean)
    s = torch.stack([torch.cosine_similarity(z, w[None]) for w in directions], dim=1) / 0.1
    torch.testing.assert_close(model.cluster(x), (s.exp() / s.exp().sum(dim=1, keepdim=True)).log())


# --- pretext tasks ----------------------------------------------------------------------------------------------------


def test_rotations_are_counter_clockwise_quarters() -> None:
    model, views, seen = method("rotation"), batch(), []
    model.encoder.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model(views)
    turned = seen[0].unflatten(0, (4, N * J))
    for r in range(4):
        expected = np.stack([np.rot90(image[0].numpy(), r) for image in views.flat])
        assert np.array_equal(turned[r, :, 0].numpy(), expected)
    with pytest.raises(ConfigError, match="rotation: expected square images, got 8x6"):
        configure({"method": "rotation"}).method.build(Context((1, 8, 6), 10))


def test_a_jigsaw_moves_whole_tiles() -> None:
    model = method("jigsaw", grid=3, permutations=10)
    x = batch().flat[:4]
    orders = model.orders[torch.tensor([0, 1, 5, 9])]
    moved = model.shuffle(x, orders)
    expected = x.clone()
    for b in range(4):
        for place, tile in enumerate(orders[b].tolist()):
            (r, c), (s, d) = divmod(place, 3), divmod(tile, 3)
            expected[b, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2] = x[b, :, 2 * s : 2 * s + 2, 2 * d : 2 * d + 2]
    assert torch.equal(moved, expected) and torch.equal(moved[0], x[0]) and not torch.equal(moved[1], x[1])
    assert torch.equal(moved[:, :, 6:], x[:, :, 6:])  # beyond the last whole tile


def test_permutations_of_a_jigsaw_are_far_from_each_other() -> None:
    orders = method("jigsaw", grid=3, permutations=30).orders
    assert orders.shape == (30, 9) and torch.equal(orders.sort(dim=1).values, torch.arange(9).expand(30, 9))
    distances = [(a != b).sum().item() for a, b in permutations(orders, 2)]
    assert min(distances) >= 6  # of random ones about 3
    assert len(method("jigsaw", grid=2, permutations=100).orders) == 24  # there are no more


def test_colours_are_predicted_from_grey() -> None:
    torch.manual_seed(0)
    model = configure({"method": {"use": "colorization", **SMALL["colorization"]}}).method
    model.build(Context((3, 8, 8), 10))
    x = torch.rand(4, 3, 8, 8)
    grey, chroma = model.split(x)
    r, g, b = x.double().unbind(dim=1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    for channel in range(3):
        torch.testing.assert_close(grey[:, channel].double(), luma, atol=1e-6, rtol=0)
    torch.testing.assert_close(chroma[:, 0].double(), 0.5 + (b - luma) / 1.772, atol=1e-5, rtol=0)
    torch.testing.assert_close(chroma[:, 1].double(), 0.5 + (r - luma) / 1.402, atol=1e-5, rtol=0)
    model.eval()
    assert torch.equal(model.represent(x), model.represent(grey)) or torch.allclose(
        model.represent(x), model.represent(grey), atol=1e-5
    )
    colours = model.reconstruct(x)
    assert colours.shape == x.shape and colours.min() >= 0 and colours.max() <= 1
    with pytest.raises(ConfigError, match="colorization: expected colour images with 3 channels, got 1"):
        configure({"method": "colorization"}).method.build(Context((1, 8, 8), 10))
