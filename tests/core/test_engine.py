"""The training loop does what the options of training say, and refuses what would spoil its records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import sslx
from sslx.api import Context, Encoder, Method, PluginError, Term, Terms, Views, slot
from sslx.core.training import checkpoint
from sslx.core.training.diagnosis import diagnose


def test_bfloat16_and_compilation_train_like_float32(tiny_run: Callable[..., Any]) -> None:
    plain, half = (tiny_run("simclr", p, train={"precision": p}) for p in ("fp32", "bf16"))
    compiled = tiny_run("simclr", "compiled", train={"compile": True})
    expected = [record["loss"] for record in plain.folder.metrics()]
    assert [r["loss"] for r in half.folder.metrics()] == pytest.approx(expected, rel=2e-2)
    assert [r["loss"] for r in half.folder.metrics()] != expected
    assert [r["loss"] for r in compiled.folder.metrics()] == pytest.approx(expected, rel=1e-3)
    assert set(compiled.method().state_dict()) == set(plain.method().state_dict())


def test_clipping_bounds_the_gradient(tiny_run: Callable[..., Any]) -> None:
    free = tiny_run("vae", "free").folder.metrics()
    clipped = tiny_run("vae", "clipped", train={"clip_norm": 1.0, "optimizer": "sgd", "lr": 1e-3}).folder.metrics()
    assert free[0]["gradient_norm"] == clipped[0]["gradient_norm"] > 1.0  # the norm before clipping is recorded
    assert abs(clipped[1]["loss"] - clipped[0]["loss"]) < abs(free[1]["loss"] - free[0]["loss"]) + 20


def test_a_budget_of_processor_time_ends_training(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run("vae", "run", train={"epochs": 100_000, "cpu_seconds": 0.3})
    assert run.folder.finished and run.results
    assert 0.3 <= run.folder.read("training.json")["cpu_seconds"] < 3


class Scripted(Method):
    """A method whose terms are what `script` makes of the step."""

    encoder: Encoder = slot(default="mlp", posterior="delta", hidden=(8,))

    def build(self, ctx: Any) -> Any:
        self.register_buffer("steps", torch.tensor(0))
        return super().build(ctx)

    def forward(self, views: Views) -> Terms:
        spread = self.encoder(views.flat).mean.square().mean()
        return Terms(spread=spread, **self.script(int(self.steps), spread))

    @staticmethod
    def script(step: int, spread: Tensor) -> dict[str, Any]:
        return {}

    def after_step(self, step: int) -> None:
        self.steps += 1

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean


@pytest.mark.parametrize(("minutes", "steps"), [(10.0, [3, 6, 12, 24, 48, 96]), (1.0, [3, 6, *range(12, 97, 6)])])
def test_the_time_between_checkpoints_grows_to_its_length(
    minutes: float, steps: list[int], tiny_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With steps of ten seconds: a short run loses half of its time at most, and a long one writes few files."""
    now = [0.0]
    monkeypatch.setattr("sslx.core.training.engine.time.monotonic", lambda: now[0])

    class Slow(Scripted):
        def after_step(self, step: int) -> None:
            now[0] += 10.0

    kept = {"epochs": 16, "checkpoint_minutes": minutes, "checkpoint_keep": 100}
    run = tiny_run(Slow, "run", train=kept)
    assert checkpoint.steps(run.folder.checkpoints) == steps


class ComesAndGoes(Scripted):
    """One term starts in the second half, another one ends there."""

    @staticmethod
    def script(step: int, spread: Tensor) -> dict[str, Any]:
        name = "late" if step >= 6 else "early"
        return {name: Term(spread * 0.5, minimum=0.0)}


def test_terms_may_come_and_go(tiny_run: Callable[..., Any]) -> None:
    run = tiny_run(ComesAndGoes(), "run")
    names = [sorted(record.keys() & {"early", "late"}) for record in run.folder.metrics()]
    assert names == [["early"]] * 6 + [["late"]] * 6
    assert run.results["trained"]["knn"]["scores"]
    assert run.training["excess"].keys() == {"early", "late"}  # both are among the last ten records


def test_the_mean_of_a_term_is_over_the_records_that_have_it() -> None:
    records = [{"step": i, "loss": float(i), **({"late_excess": 2.0} if i > 7 else {})} for i in range(10)]
    found = diagnose(object(), records)
    assert found["excess"] == {"late": 2.0} and found["score"] == 4.5 and found["score_by"] == "loss"


@pytest.mark.parametrize("name", ["loss", "step", "epoch", "lr", "gradient_norm", "excess", "prior_excess"])
def test_a_term_cannot_take_the_name_of_what_is_recorded_anyway(name: str, tiny_run: Callable[..., Any]) -> None:
    class Named(Scripted):
        @staticmethod
        def script(step: int, spread: Tensor) -> dict[str, Any]:
            return {name: spread}

    with pytest.raises(PluginError, match=f"Named.forward: a term cannot be called '{name}'"):
        tiny_run(Named(), "run")


def test_a_network_that_was_not_built_says_so() -> None:
    encoder = sslx.make("encoder", "mlp")
    with pytest.raises(AttributeError, match=r"has no attribute 'layers'; is it used before `build\(Context\(...\)\)`"):
        encoder(torch.rand(2, 1, 8, 8))
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        encoder.build(Context((1, 8, 8), 10))
        encoder.nothing  # noqa: B018
