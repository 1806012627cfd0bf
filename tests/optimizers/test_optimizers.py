"""Optimizers are components: their steps are those of torch, and biases and normalization weights are not decayed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sslx.api import Optimizer, option
from sslx.core.training.config import configure
from sslx.optimizers.adam import Adam, AdamW
from sslx.optimizers.lars import LARS
from sslx.optimizers.sgd import SGD

NAMES = ["adam", "adamw", "sgd", "lars"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))


def trained(module: nn.Module, optimizer: torch.optim.Optimizer, rate: Callable[[int], Any]) -> torch.Tensor:
    """The weights after ten steps on fixed data."""
    generator = torch.Generator().manual_seed(0)
    for step in range(10):
        x, y = torch.randn(16, 4, generator=generator), torch.randn(16, 1, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        (module(x) - y).square().mean().backward()
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


@pytest.mark.parametrize(
    ("mine", "torchs"),
    [
        (Adam(weight_decay=0.1, betas=(0.8, 0.99)), lambda g: torch.optim.Adam(g, betas=(0.8, 0.99), fused=True)),
        (AdamW(weight_decay=0.1), lambda g: torch.optim.AdamW(g, fused=True)),
        (SGD(weight_decay=0.1, momentum=0.5), lambda g: torch.optim.SGD(g, momentum=0.5)),
    ],
)
def test_steps_are_those_of_torch_with_groups_by_hand(mine: Optimizer, torchs: Any) -> None:
    module = network()
    other = copy.deepcopy(module)
    matrices = [w for name, w in other.named_parameters() if name in ("0.weight", "3.weight")]
    vectors = [w for name, w in other.named_parameters() if name not in ("0.weight", "3.weight")]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    tensor = torch.zeros((), dtype=torch.float64)  # as the engine hands it over
    got = trained(module, mine.build(mine.groups(module)), lambda step: tensor.fill_(0.01 * (step + 1)))
    assert torch.equal(got, trained(other, torchs(groups), lambda step: 0.01 * (step + 1)))


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_decayed_only_if_asked(name: str) -> None:
    def after_one_step(**options: Any) -> nn.Module:
        module = network()
        with torch.no_grad():
            for weight in module.parameters():
                weight.fill_(1.0)
        chosen: Any = configure({"method": "random", "train": {"optimizer": {"use": name, "lr": 0.1, **options}}})
        optimizer = chosen.train.optimizer
        for weight in module.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.build(optimizer.groups(module)).step()
        return module

    def moved(module: nn.Module) -> set[int]:
        return {weight.ndim for weight in module.parameters() if not torch.equal(weight, torch.ones_like(weight))}

    assert moved(after_one_step()) == set()
    assert moved(after_one_step(weight_decay=0.1)) == {2}
    assert moved(after_one_step(weight_decay=0.1, decay_vectors=True)) == {1, 2}


def test_lars_scales_each_layer_by_its_norms() -> None:
    w, b = torch.nn.Parameter(torch.tensor([[3.0, 4.0]])), torch.nn.Parameter(torch.tensor([1.0]))
    made = LARS(lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    optimizer = made.build([{"params": [w, b]}])
    w.grad, b.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([2.0])
    optimizer.step()
    g = torch.tensor([[0.3, 2.4]])
    step = 0.01 * 5.0 / g.norm() * g
    torch.testing.assert_close(w.detach(), torch.tensor([[3.0, 4.0]]) - 0.5 * step)
    torch.testing.assert_close(b.detach(), torch.tensor([0.0]))  # a vector: plain SGD
    optimizer.step()
    torch.testing.assert_close(b.detach(), torch.tensor([-0.5 * (0.9 * 2.0 + 2.0)]))


def test_the_learning_rate_warms_up_and_decays() -> None:
    made = SGD(lr=1.0, schedule="cosine", warmup_epochs=2.0)
    rates = [made.rate(step, total=100, per_epoch=5) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0 and rates[55] == pytest.approx(0.5) and 0 < rates[99] < 1e-3
    assert SGD(lr=0.1).rate(50, 100, 5) == 0.1


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "lars"])
def test_every_optimizer_lowers_the_loss(optimizer: str, tiny_run: Callable[..., Any]) -> None:
    lr = {"sgd": 1e-4, "lars": 1e-4}.get(optimizer, 1e-2)
    run = tiny_run("vae", "run", train={"optimizer": optimizer, "lr": lr, "epochs": 5, "clip_norm": 1e3})
    losses = [record["loss"] for record in run.folder.metrics()]
    assert sum(losses[-6:]) < sum(losses[:6])


@pytest.mark.parametrize(
    "spelling", [{"lr": 0.5, "betas": (0.8, 0.9)}, {"optimizer": {"lr": 0.5, "betas": (0.8, 0.9)}}]
)
def test_options_of_the_optimizer_may_stand_beside_those_of_training(spelling: dict[str, Any]) -> None:
    chosen: Any = configure({"method": "random", "train": spelling}).train.optimizer
    assert isinstance(chosen, Adam) and chosen.lr == 0.5 and chosen.betas == (0.8, 0.9)


class Sign(Optimizer, lr=1e-2):
    """w ← w - lr sign(gradient)."""

    flip: bool = option(default=False, help="Whether weights move the other way.")

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        flip = self.flip

        class Torchs(torch.optim.Optimizer):
            @torch.no_grad()
            def step(self, closure: None = None) -> None:  # type: ignore[override]
                for group in self.param_groups:
                    for weight in group["params"]:
                        weight += weight.grad.sign() * group["lr"] * (1 if flip else -1)

        return Torchs(groups, {"lr": self.lr})


def test_an_optimizer_of_ones_own_trains(tiny_run: Callable[..., Any]) -> None:
    losses = {}
    for flip in (False, True):
        run = tiny_run("ae", f"run-{flip}", train={"optimizer": Sign(flip=flip), "epochs": 5})
        losses[flip] = [record["loss"] for record in run.folder.metrics()]
        assert run.folder.metrics()[-1]["lr"] == 1e-2
    assert losses[False][-1] < losses[False][0] < losses[True][-1]
