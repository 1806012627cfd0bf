"""Energies: their losses in loops, their sampler against distributions that are known, and what a run says of itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score
from test_every_method import SHAPE, J, N, batch, build, train
from torch import Tensor

from sslx.api import Context, Method, Samples, can
from sslx.core.errors import ConfigError, NonFiniteError
from sslx.core.terms import Term, Terms
from sslx.core.training.config import configure
from sslx.core.training.diagnosis import diagnose, excess
from sslx.evaluators.ood import like
from sslx.evaluators.samples import energy_distance
from sslx.plugins.registry import registry
from sslx.ssl_methods.gedi import GEDI
from sslx.ssl_methods.parts.sgld import SGLD

Command = Callable[..., tuple[int, str, str]]


# --- losses -----------------------------------------------------------------------------------------------------------


def logits(model: Any, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.embed(x).double().numpy()


def f_of(t: np.ndarray) -> float:
    return math.log(sum(math.exp(v) for v in t))


def p_of(t: np.ndarray) -> list[float]:
    return [math.exp(v - f_of(t)) for v in t]


def test_the_terms_of_gedi_are_those_of_the_paper_in_loops() -> None:
    model, views = build("gedi", energy={**SMALL["gedi"]["energy"], "magnitude": 0.01}), batch()
    terms = model(views)
    _, negative = model.energy.moved
    t = [[logits(model, views.x[n, j][None])[0] for j in range(J)] for n in range(N)]
    p = [[p_of(t[n][j]) for j in range(J)] for n in range(N)]
    c = len(p[0][0])
    invariance = prior = 0.0
    for n in range(N):
        for j, k in ((0, 1), (1, 0)):
            invariance -= sum(p[n][j][y] * math.log(p[n][k][y]) for y in range(c)) / (2 * N)
    for y in range(c):
        prior -= math.log(sum(p[n][j][y] for n in range(N) for j in range(J)) / (N * J)) / c
    data = [f_of(t[n][0]) for n in range(N)]
    drawn = [f_of(logits(model, x[None])[0]) for x in negative]
    assert terms["invariance"].value.item() == pytest.approx(invariance, rel=1e-5)
    assert terms["prior"].value.item() == pytest.approx(prior, rel=1e-5)
    assert terms["generative"].value.item() == pytest.approx(sum(drawn) / N - sum(data) / N, abs=1e-5)
    squares = sum(v * v for v in data) / N + sum(v * v for v in drawn) / N
    assert terms["magnitude"].value.item() == pytest.approx(squares, rel=1e-5)
    assert {name: (term.weight, term.minimum) for name, term in terms.items()} == {
        "invariance": (50, 0), "prior": (25, math.log(10)), "generative": (1, None), "magnitude": (0.01, None),
    }  # fmt: skip


def test_weights_and_terms_are_options() -> None:
    weights = {name: {key: term.weight for key, term in build(name)(batch()).items()} for name in (
        "gedi-no-gen", "gedi-no-inv", "gedi-no-prior", "jem")}  # fmt: skip
    assert weights == {
        "gedi-no-gen": {"invariance": 50, "prior": 25},
        "gedi-no-inv": {"invariance": 0, "prior": 25, "generative": 1},
        "gedi-no-prior": {"invariance": 50, "prior": 0, "generative": 1},
        "jem": {"invariance": 0, "prior": 0, "generative": 1},
    }


@pytest.mark.parametrize("tau", [0.1, 1.0, 3.0])
def test_a_temperature_divides_the_logits_of_all_terms(tau: float) -> None:
    """GEDI, Eq. 6: the same as a last layer whose weights are divided by it; a temperature of 1 leaves all bits."""
    found = []
    for temperature in (tau, 1.0):
        model = build("gedi", **({"temperature": temperature} if temperature != 1 or tau == 1 else {}))
        if temperature == 1:
            with torch.no_grad():
                for weight in model.head[-1].parameters():
                    weight /= tau
        torch.manual_seed(5)
        terms = model(batch())
        found.append({name: term.value for name, term in terms.items()} | {"log p": model.cluster(batch().flat)})
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=1e-5)
        assert tau != 1 or torch.equal(value, found[1][name])


def test_two_stages_learn_one_after_the_other() -> None:
    model = build("gedi-two-stage")
    for step in range(6):
        counted = {name for name, term in model(batch()).items() if term.weight}
        assert counted == ({"generative"} if step < 4 else {"invariance", "prior"})
        model.after_step(step)


def test_the_gradient_does_not_pass_through_the_chains() -> None:
    """That of E f(x⁻) - E f(x) with x⁻ fixed, which is that of -log p(x) (GEDI, Eq. 7)."""
    model = build("jem")
    model(batch())["generative"].value.backward()
    got = {name: w.grad.clone() for name, w in model.named_parameters()}
    _, negative = model.energy.moved
    model.zero_grad()
    (model.log_density(negative).mean() - model.log_density(batch().x[:, 0]).mean()).backward()
    for name, w in model.named_parameters():
        torch.testing.assert_close(got[name], w.grad, msg=name)


def similarities(model: Any, x: Tensor) -> float:
    """log p(x) + constant of one image, from its embedding in loops."""
    z = logits(model, x[None])[0]
    name, objective = type(model).__name__, getattr(model, "objective", None)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))

    if name in ("SwAV", "DINO", "ProtoCPC"):
        return f_of(z / objective.temperature)
    if name == "SimCLR":
        return f_of(np.array([cosine(z, r) for r in objective.latest.numpy()]) / objective.temperature)
    if name == "EBCLR":
        return f_of(np.array([-((z - r) ** 2).sum() for r in objective.latest.numpy()]) / objective.temperature)
    if name == "MoCo":
        return f_of(np.array([cosine(z, r) for r in objective.queue.numpy()]) / objective.temperature)
    if name == "InstanceDiscrimination":
        return f_of(np.array([cosine(z, r) for r in model.bank.numpy()]) / model.temperature)
    if name == "DeepCluster":
        return f_of(np.array([cosine(z, r) for r in model.centroids.numpy()]) / model.temperature)
    return f_of(z)


DENSITIES = ("gedi", "swav", "dino", "simclr", "ebclr", "moco", "instance-discrimination", "deep-cluster", "sela")


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_is_the_logsumexp_of_logits_or_similarities(name: str) -> None:
    model = build(name)
    train(model, batch(), 2)
    model.eval()
    x = batch().flat[:3]
    got = model.log_density(x)
    assert got.tolist() == pytest.approx([similarities(model, image) for image in x], rel=1e-5)


@pytest.mark.parametrize("name", ("swav", "simclr", "moco", "deep-cluster"))
def test_any_method_with_logits_or_similarities_takes_an_energy(name: str) -> None:
    model = build(name, energy={"use": "sgld", "steps": 1, "chains": 20})
    assert {"generative"} < set(model(batch())) and model.sample(3).shape == (3, *SHAPE)
    alone = build(name)
    assert "generative" not in alone(batch()) and not can(alone, Samples)


def test_an_energy_without_a_density_and_too_few_chains_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^energy: VICReg has neither logits nor similarities, expected none$"):
        build("vicreg", energy="sgld")
    with pytest.raises(ConfigError, match=r"^energy.chains: expected at least 8, the images of a step, got 5$"):
        build("jem", energy={"chains": 5})(batch())


# --- the sampler ------------------------------------------------------------------------------------------------------


class Normal(Method):
    """log p(x) = -x²/2 + constant, in each of two dimensions."""

    def build(self, ctx: Context) -> Context:
        self.norm = torch.nn.BatchNorm1d(2, affine=False)
        return ctx

    def log_density(self, x: Tensor) -> Tensor:
        return -self.norm(x.flatten(1)).square().sum(dim=1) / 2


def sampler(**options: Any) -> Any:
    built = SGLD(**options)
    torch.manual_seed(0)
    built.build(Context((2, 1, 1), samples=1))
    return built


def normal() -> Any:
    model = Normal()
    model.build(Context((2, 1, 1), samples=1))
    return model


def test_langevin_dynamics_draw_from_a_known_gaussian() -> None:
    """x ← (1 - a) x + s ε begins at 0 and has the variance s² (1 - (1 - a)²ᵀ) / (1 - (1 - a)²) after T steps."""
    a, T = 0.05, 120
    energy = sampler(step_size=a, noise=math.sqrt(2 * a), clamp=False)
    with torch.no_grad():
        x = energy.langevin(normal().eval().log_density, torch.zeros(5000, 2, 1, 1), T, energy.low, energy.high)
    variance = 2 * a * (1 - (1 - a) ** (2 * T)) / (1 - (1 - a) ** 2)
    for dimension in x.flatten(1).T.numpy():
        assert kstest(dimension, "norm", args=(0, math.sqrt(variance))).pvalue > 0.01
    assert variance == pytest.approx(1, abs=0.03)  # Langevin dynamics approach p itself for small steps


def test_compiled_and_plain_chains_are_the_same() -> None:
    found = []
    for compiled in (False, True):
        energy = sampler(step_size=0.05, noise=0.3, compiled=compiled)
        torch.manual_seed(1)
        start = torch.randn(50, 2, 1, 1)
        found.append(energy.langevin(normal().eval().log_density, start, 5, energy.low, energy.high))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_a_forward_pass_changes_nothing_and_a_step_moves_chosen_chains_and_the_box() -> None:
    energy, model = sampler(steps=1, chains=30, restart=0.0, noise=0.0, step_size=0.1, clamp=False), normal()
    x = torch.tensor([[-3.0, 0.5], [0.0, 2.0]])[:, :, None, None]
    before = {name: value.clone() for name, value in {**energy.state_dict(), **model.state_dict()}.items()}
    buffer = energy.buffer.clone()
    energy(model, x)
    after = {**energy.state_dict(), **model.state_dict()}
    assert all(torch.equal(after[name], value) for name, value in before.items())  # no batch statistics either
    assert model.training and model.norm.training and torch.equal(energy.buffer, buffer)
    energy.after_step(0)
    chosen, _ = energy.moved
    expected = buffer.clone()
    expected[chosen] -= 0.1 * buffer[chosen] / (1 + 1e-5)  # what batch normalization adds to a variance of 1
    torch.testing.assert_close(energy.buffer, expected)
    assert energy.low.flatten().tolist() == [-3, 0] and energy.high.flatten().tolist() == [1, 2]


def test_chains_start_again_in_the_box_and_stay_there_if_clamped() -> None:
    x = torch.tensor([-1.0, 4.0])[None, :, None, None].expand(1000, -1, -1, -1)
    energy = sampler(steps=1, chains=1000, restart=1.0, noise=0.0, step_size=1e-9)
    energy(normal(), x)
    first, second = energy.moved[1].flatten(1).T.numpy()
    assert kstest(first, "uniform", args=(-1, 2)).pvalue > 0.01 and kstest(second, "uniform", args=(0, 4)).pvalue > 0.01
    energy = sampler(steps=3, chains=1000, restart=0.5, noise=5.0)
    energy(normal(), x)
    first, second = energy.moved[1].flatten(1).T
    assert first.aminmax() == (-1, 1) and second.aminmax() == (0, 4)
    free = sampler(steps=3, chains=1000, restart=0.5, noise=5.0, clamp=False)
    free(normal(), x)
    assert free.moved[1].abs().max() > 10


def test_a_part_of_the_chains_starts_again() -> None:
    energy = sampler(steps=1, chains=5000, restart=0.2, noise=0.0, step_size=1e-9)
    energy(normal(), torch.zeros(5000, 2, 1, 1))
    chosen, states = energy.moved
    moved = ((states - energy.buffer[chosen]).abs() > 1e-6).flatten(1).any(dim=1)
    assert float(moved.double().mean()) == pytest.approx(0.2, abs=0.02)  # 3.5 standard deviations
    assert len(chosen.unique()) == 5000


def test_a_density_learns_the_moons(tmp_path: Path) -> None:
    import sslx

    run = sslx.run(
        "jem", dataset="moons", out=tmp_path / "run", device="cpu", train={"epochs": 8}, evaluators="samples",
        method={"energy": {"steps": 10, "step_size": 0.005, "noise": 0.1, "magnitude": 0.1}},
    )  # fmt: skip
    method: Any = run.method()
    _, test = run.config.dataset.load(tmp_path, offline=True)
    generator = torch.Generator().manual_seed(0)
    low, high = method.energy.low, method.energy.high
    other = low + (high - low) * torch.rand(2000, 2, 1, 1, generator=generator)
    with torch.no_grad():
        f = method.log_density(torch.cat([test.images, other]))
    assert roc_auc_score([1] * len(test) + [0] * 2000, f) > 0.7
    trained, untrained = (run.results[which]["samples"]["scores"]["samples"] for which in ("trained", "untrained"))
    assert trained < untrained / 2
    with Image.open(run.path / "plane.png") as picture:
        assert picture.size[0] > 500 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 100


def test_a_sampler_that_diverges_stops_the_run_with_its_reason(command: Command, tmp_path: Path) -> None:
    code, _, errors = command(
        "run", "-p", "jem", "-d", "moons", "--set", "energy.step_size=1e9", "--set", "energy.clamp=false", "--set",
        "energy.magnitude=0", "--set", "energy.steps=5", "--set", "dataset.samples=400", "--out", "run",
    )  # fmt: skip
    assert code == NonFiniteError.exit_code == 1
    (line,) = [line for line in errors.splitlines() if line.startswith("sslx:")]
    assert "the sampler diverged" in line and "energy.step_size" in line and "sslx replay run" in line
    assert (
        "diverged" in json.loads((tmp_path / "run" / "crash" / "crash.json").read_text())["processes"][0]["reasons"][0]
    )


# --- what a run says of itself ----------------------------------------------------------------------------------------


def test_terms_report_their_distance_from_a_known_minimum() -> None:
    terms = Terms(
        a=Term(torch.tensor(0.0), 3.0, minimum=0.5), b=Term(torch.tensor(0.0), 0.0, minimum=0.0), c=torch.ones(())
    )
    assert excess(terms, {"a": 0.75, "b": 0.1, "c": 1.0}) == {"a_excess": 0.25, "b_excess": 0.1, "excess": 0.75}
    assert excess(Terms(b=terms["b"], c=terms["c"]), {"b": 0.1, "c": 1.0}) == {"b_excess": 0.1}
    records = [{"loss": float(i), "excess": 1.0 + i, "a_excess": 0.1 * i} for i in range(20)]
    found = diagnose(object(), records)  # the mean of the last ten
    assert found["score"] == 15.5 and found["score_by"] == "excess" and found["excess"] == {"a": pytest.approx(1.45)}
    assert found["diagnosis"] == "loss terms above their known minimum (0 is perfect): a 1.4500"
    assert diagnose(object(), [{"loss": 2.0}]) == {"score": 2.0, "score_by": "loss", "excess": {}, "diagnosis": ""}
    assert diagnose(object(), []) == {}


@pytest.mark.parametrize(
    ("p", "mode"),
    [
        (lambda n: torch.eye(4)[n % 4], "none of the three"),
        (lambda n: torch.eye(4)[0 * n], "cluster collapse"),
        (lambda n: torch.full((len(n), 4), 0.25), "representational collapse"),
        (lambda n: torch.eye(4)[(n + torch.arange(len(n)) % 2) % 4], "label inconsistency"),
    ],
)
def test_each_failure_mode_is_known_by_its_losses(p: Callable[[Tensor], Tensor], mode: str) -> None:
    """p(y|x) of 400 images with two views as Definitions 12 to 14 of the paper describe them."""
    model: Any = GEDI(clusters=4, energy=None)
    model.embeddings = lambda views: p(torch.arange(400).repeat_interleave(2)).mul(50).unflatten(0, (-1, 2))
    terms = GEDI.relate(model, batch())
    values = {name: term.value.item() for name, term in terms.items()}
    assert model.diagnosis({k.removesuffix("_excess"): v for k, v in excess(terms, values).items()}).startswith(mode)


def test_restarts_are_ranked_without_labels(command: Command, tmp_path: Path) -> None:
    arguments = ("-p", "gedi-no-gen", "-d", "circles", "--set", "dataset.samples=800", "-e", "cluster", "--out", "g")
    code, out, errors = command("run", *arguments, "--seed", "3", "--restarts", "3", "--epochs", "2")
    assert code == 0, errors
    scores = {
        seed: json.loads((tmp_path / "g" / f"gedi-no-gen-seed={seed}" / "training.json").read_text())["score"]
        for seed in (3, 4, 5)
    }
    said = [line for line in out.splitlines() if line.startswith(("best of ", "2.", "3."))]
    order = sorted(scores, key=lambda seed: scores[seed])
    assert [line.split("seed=")[1][0] for line in said] == [str(seed) for seed in order]
    assert said[0].startswith("best of ") and "invariance" in said[0] and "known minimum" in said[0]
    assert command("resume", "g")[1] == out
    code, _, errors = command("run", *arguments, "--seed", "3,4", "--restarts", "3")
    assert code == 2 and "expected a single --seed" in errors
    code, _, errors = command("run", *arguments, "--seed", "x", "--restarts", "3")
    assert code == 2 and "seed: expected an integer" in errors


# --- evaluators -------------------------------------------------------------------------------------------------------


def test_images_of_another_set_are_told_apart_by_a_density_that_knows_them(command: Command, tmp_path: Path) -> None:
    (tmp_path / "sets.py").write_text(
        "import torch\n"
        "from sslx.api import Dataset, Split, Method, Encoder, Terms, slot\n"
        "class Dark(Dataset):\n"
        "    value = 40\n"
        "    def load(self, folder, offline):\n"
        "        images = torch.randint(0, self.value, (60, *self.shape), generator=torch.Generator().manual_seed(0))\n"
        "        return Split(images.byte()), Split(images.byte())\n"
        "    shape = (1, 8, 8)\n"
        "class Bright(Dark):\n"
        "    value = 250\n"
        "    shape = (3, 12, 9)\n"
        "class Known(Method):\n"
        "    encoder: Encoder = slot(default='mlp', posterior='delta')\n"
        "    def forward(self, views): return Terms(a=self.encoder(views.flat).mean.square().mean())\n"
        "    def represent(self, x): return self.encoder(x).mean\n"
        "    def log_density(self, x): return -x.square().sum(dim=(1, 2, 3))\n"
        "    def cluster(self, x): return torch.zeros(len(x), 2).log_softmax(dim=1) + 0 * x.sum()\n"
    )
    arguments = ("run", "-p", f"{tmp_path}/sets.py:Known", "-d", f"{tmp_path}/sets.py:Dark", "--batch-size", "20")
    other = f"evaluators.ood.against={tmp_path}/sets.py:Bright"  # as `run` and, but for the first word, `eval` call it
    code, _, errors = command(*arguments, "--epochs", "1", "-e", "ood,samples", "--out", "run")
    assert code == 0, errors
    results = json.loads((tmp_path / "run" / "results.json").read_text())["trained"]
    assert results["samples"]["skipped"] == "the method draws no images"
    assert "name a second dataset" in results["ood"]["skipped"]
    code, _, errors = command("eval", "run", "-e", "ood", "--set", other, "--trust-code")
    assert code == 0, errors
    results = json.loads((tmp_path / "run" / "results.json").read_text())["trained"]
    scores = results["ood"]["scores"]  # the dark images are in the middle of the density, where it is flat too
    assert scores == {"ood": 1.0, "ood-density": 1.0, "ood-confidence": 0.5}


def test_images_of_another_set_get_the_shape_of_the_run() -> None:
    grey, colour = torch.rand(2, 1, 8, 8), torch.rand(2, 3, 12, 9)
    assert like(colour, grey).shape == grey.shape and like(grey, colour).shape == (2, 3, 12, 9)
    torch.testing.assert_close(like(torch.full((1, 3, 5, 5), 0.3), grey), torch.full((1, 1, 8, 8), 0.3))


def test_the_energy_distance_is_that_of_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 2, 1, 1, generator=generator), 1 + torch.randn(5, 2, 1, 1, generator=generator)

    def distance(a: Tensor, b: Tensor) -> float:
        return math.dist(a.flatten().tolist(), b.flatten().tolist())

    between = sum(distance(a, b) for a in x for b in y) / 35
    within = sum(distance(a, b) for a in x for b in x) / 42 + sum(distance(a, b) for a in y for b in y) / 20
    assert energy_distance(x, y) == pytest.approx(2 * between - within)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_resnet8_has_the_size_that_the_paper_says_and_takes_any_image() -> None:
    for width, parameters in ((128, 1_037_184), (256, 4_138_752)):
        encoder = registry().resolve("encoder", "resnet8").cls(width=width, posterior="delta")
        encoder.build(Context((3, 32, 32), samples=1))
        assert sum(w.numel() for w in encoder.layers.parameters()) == parameters
    for shape in ((1, 28, 28), (1, 8, 8), (2, 1, 1), (3, 33, 20)):
        encoder = registry().resolve("encoder", "resnet8").cls(width=8, posterior="delta", dim=4)
        encoder.build(Context(shape, samples=1))
        assert encoder(torch.rand(2, *shape)).mean.shape == (2, 4)


def test_points_recommend_what_suits_them_to_methods_that_have_it() -> None:
    config: Any = configure({"method": {"use": "gedi"}, "dataset": "circles"})
    assert (config.method.clusters, config.method.prior_weight, config.method.energy.steps) == (2, 10, 1)
    assert configure({"method": {"use": "gedi-no-gen"}, "dataset": "moons"}).method.energy is None  # type: ignore[attr-defined]
    vae: Any = configure({"method": {"use": "vae"}, "dataset": "moons"}).method
    assert vae.encoder.hidden == (100, 100) and type(vae.prior).__name__ == "StandardNormal"
    swav: Any = configure({"method": {"use": "swav", "prototypes": 5}, "dataset": "moons"}).method
    assert swav.prototypes == 5


def test_a_dataset_does_not_bring_back_a_term_that_a_method_leaves_out() -> None:
    weights = {}
    for name in ("gedi", "gedi-no-prior", "gedi-no-inv", "jem"):
        method: Any = configure({"method": name, "dataset": "circles"}).method
        weights[name] = (method.invariance_weight, method.prior_weight, method.energy.magnitude, method.clusters)
    assert weights == {
        "gedi": (50.0, 10.0, 0.01, 2),
        "gedi-no-prior": (50.0, 0.0, 0.0, 2),
        "gedi-no-inv": (0.0, 10.0, 0.0, 2),
        "jem": (0.0, 0.0, 0.0, 2),
    }
