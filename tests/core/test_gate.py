"""A step that the host does not wait for keeps every promise of one that is checked: the same code, forced on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sslx
from sslx.api import Context, Module, Terms, Views
from sslx.core.errors import NonFiniteError
from sslx.core.training import checkpoint, gate
from sslx.core.training.engine import Engine
from sslx.ssl_methods.moco import MoCo
from sslx.ssl_methods.simclr import SimCLR

TinyRun = Callable[..., Any]
LARS = {"use": "lars", "lr": 0.1, "weight_decay": 1e-3}


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Gates on the CPU as well. Returns the engines that had one."""
    made: list[Engine] = []
    fit = Engine.fit

    def noted(engine: Engine) -> None:
        made.extend([engine] if engine.gate is not None else [])
        fit(engine)

    monkeypatch.setattr(gate, "DEVICES", ("cuda", "cpu"))
    monkeypatch.setattr(Engine, "fit", noted)
    return made


def state(folder: Path) -> dict[str, Any]:
    path, _ = checkpoint.newest(folder)
    assert path is not None
    shared, local = checkpoint.load(path)
    flat, ahead = {}, [("", {**shared, "local": local})]
    while ahead:
        name, value = ahead.pop()
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if items is None:
            flat[name] = value
        else:
            ahead += [(f"{name}.{key}", each) for key, each in items]
    return {name: value for name, value in flat.items() if "seconds" not in name}


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    assert a.keys() == b.keys()
    return [n for n, v in a.items() if not (v.equal(b[n]) if isinstance(v, torch.Tensor) else v == b[n])]


@pytest.mark.parametrize("name", ["swav", "vae"])
def test_a_gated_run_equals_a_checked_one(
    name: str, tiny_run: TinyRun, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    options = {"train": {"log_every": 4}, "evaluators": {}}
    tiny_run(name, "checked", **options)
    engines = request.getfixturevalue("gated")
    tiny_run(name, "gated", **options)
    assert len(engines) == 1
    one, other = (state(tmp_path / run / "checkpoints") for run in ("checked", "gated"))
    assert differing(one, other) == []
    records = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("checked", "gated")]
    assert records[0] == records[1]


class _Bad:
    """A loss that is not finite for the batch with image 7, whatever the method."""

    def forward(self, views: Views) -> Terms:
        terms: Any = super().forward(views)  # type: ignore[misc]
        name = next(iter(terms))
        worth = terms[name].value * (torch.tensor(0.0).log() if 7 in views.index.tolist() else 1)
        return Terms({**terms, name: worth})


class BadSimCLR(_Bad, SimCLR):
    pass


class BadMoCo(_Bad, MoCo):
    pass


@pytest.mark.parametrize(("cls", "optimizer"), [(BadSimCLR, "adam"), (BadMoCo, "adamw"), (BadMoCo, LARS)])
def test_nothing_changes_from_the_bad_step_on_and_it_is_found_again(
    cls: type, optimizer: Any, tiny_run: TinyRun, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    small = {"encoder": {"hidden": [16]}, "projector": [8, 8]}
    options = {"train": {"log_every": 100, "optimizer": optimizer}, "seed": 5, "method": small}
    with pytest.raises(NonFiniteError) as checked:
        tiny_run(cls, "checked", **options)
    engines = request.getfixturevalue("gated")
    with pytest.raises(NonFiniteError) as found:
        tiny_run(cls, "gated", **options)
    (engine,) = engines
    assert engine.gate is not None and engine.gate.closed == 1
    assert str(found.value).replace("gated", "checked") == str(checked.value)
    facts = [json.loads((tmp_path / run / "crash" / "crash.json").read_text()) for run in ("checked", "gated")]
    assert 0 < facts[0]["step"] == facts[1]["step"] < 5, "the epoch, at whose end the flag is read, has six steps"
    assert [f["processes"][0]["samples"] for f in facts[:1]] == [f["processes"][0]["samples"] for f in facts[1:]]
    one, other = (state(tmp_path / run / "crash") for run in ("checked", "gated"))
    norms = ("running_mean", "running_var", "num_batches_tracked")  # a checked forward pass has moved these already
    moved = [name for name in differing(one, other) if not name.endswith(norms)]
    if optimizer is LARS:  # fused with the flag, and equal up to rounding
        assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in moved)
    else:
        assert moved == []
    assert all(bool(torch.as_tensor(value).isfinite().all()) for value in other.values() if value is not None)


def test_statistics_of_batch_normalization_are_kept() -> None:
    method = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    made = gate.Gate(method, torch.optim.Adam(method.parameters(), fused=True), torch.device("cpu"))
    for step, loss in enumerate([1.0, float("nan"), 1.0]):
        before = {name: value.clone() for name, value in method.state_dict().items()}
        made.keep()
        method(torch.rand(8, 4))
        made.judge(torch.tensor(loss), torch.tensor(2.0), step, None)
        made.restore()
        same = all(value.equal(before[name]) for name, value in method.state_dict().items())
        assert same == (step > 0), "the flag stays set"
    assert made.read() == (1, 2.0)


def test_a_step_after_code_of_its_own_is_checked_unless_it_says_otherwise() -> None:
    class Own(SimCLR):
        def after_step(self, step: int) -> None:
            super().after_step(step)

    class Declared(Own):
        gated = True

    class Further(Declared):
        def after_step(self, step: int) -> None:
            self.steps = step

    def gateable(cls: type[Module]) -> bool:
        method: Any = cls(encoder=sslx.make("encoder", "mlp", hidden=(8,)))
        method.build(Context((1, 8, 8), 32, 2, 4))
        return gate.gateable(method)

    assert [gateable(cls) for cls in (SimCLR, Own, Declared, Further)] == [True, False, True, False]
