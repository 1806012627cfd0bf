"""What holds for every method that is installed, whatever it computes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ENCODER, SMALL, digest

from sslx import session
from sslx.api import Context, Split, Views
from sslx.core import checkpoint, signals
from sslx.core.config import configure
from sslx.core.engine import Engine
from sslx.core.errors import Interrupted
from sslx.core.records import RunFolder
from sslx.core.runtime import Runtime
from sslx.plugins.registry import registry

N, J, SHAPE = 8, 2, (3, 8, 8)
METHODS = list(registry().providers("method"))
TRAINED = [name for name in METHODS if name != "random"]


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    method = configure({"method": {"use": name, **SMALL.get(name, ENCODER), **options}}).method
    method.build(Context(SHAPE, samples=N, views=J, steps=200))
    return method


def batch() -> Views:
    """Images of their own colours, whose views differ by noise."""
    generator = torch.Generator().manual_seed(1)
    original = torch.rand(N, *SHAPE, generator=generator)
    x = original[:, None] + 0.1 * torch.rand(N, J, *SHAPE, generator=generator)
    return Views((x / 1.1), original, torch.arange(N))


def train(method: Any, steps: int, lr: float = 1e-2) -> list[float]:
    """As the engine does, with an epoch of five steps on one batch. Returns the losses."""
    method.train()
    optimizer, views, losses = torch.optim.Adam(method.parameters(), lr=lr), batch(), []
    for step in range(steps):
        if step % 5 == 0:
            torch.manual_seed(1000 + step)
            method.before_epoch(step // 5)
        torch.manual_seed(step)
        loss = method(views).total
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step)
    return losses


def state(method: Any) -> dict[str, Any]:
    return {**method.state_dict(), **{f"local.{name}": value for name, value in method.local_state().items()}}


@pytest.mark.parametrize("name", METHODS)
def test_a_representation_is_a_vector_for_each_image(name: str) -> None:
    method, x = build(name).eval(), batch().flat
    with torch.no_grad():
        z = method.represent(x)
        assert z.shape[0] == N * J and z.ndim == 2 and torch.equal(z, method.represent(x))
        torch.testing.assert_close(z[:3], method.represent(x[:3]))  # of each image by itself
        if hasattr(method, "cluster"):
            log_p = method.cluster(x)
            torch.testing.assert_close(log_p.exp().sum(dim=1), torch.ones(N * J))


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_every_parameter_but_a_teachers(name: str) -> None:
    method = build(name)
    train(method, 6)  # some have nothing to learn before their first epoch ends
    method.zero_grad()
    method(batch()).total.backward()
    for key, weight in method.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None and weight.grad.any(), key
        else:
            assert weight.grad is None and key.startswith("teacher"), key


#: Methods whose loss moves with its target, or has a high floor. Of these the images of the batch must separate.
MOVING = (
    "cor-info-max",
    "instance-discrimination",
    "moco",
    "moco-v2",
    "dino",
    "proto-cpc",
    "deep-cluster",
    "sela",
    "swav",
)


def separation(method: Any) -> float:
    """Squared distance between images over that between views of an image, of embeddings of unit length."""
    views = batch()
    with torch.no_grad():
        z = torch.nn.functional.normalize(views.group(method.eval().embed(views.flat)), dim=2)
    within = (z - z.mean(dim=1, keepdim=True)).square().sum(dim=2).mean()
    between = (z.mean(dim=1) - z.mean(dim=(0, 1))).square().sum(dim=1).mean()
    return float(between / within)


#: Methods that learn a density first: their loss is a difference to their own samples (test_energy).
DENSITIES = ("jem", "gedi-no-inv", "gedi-two-stage")


@pytest.mark.parametrize("name", [name for name in TRAINED if name not in DENSITIES])
def test_a_method_overfits_one_batch(name: str) -> None:
    method = build(name)
    floor = sum(term.weight * (term.minimum or 0.0) for term in method(batch()).values())
    before = separation(method) if name in MOVING else 0.0
    losses = train(method, 200)
    if name in MOVING:
        assert separation(method) > 5 * before
    else:
        last = sum(losses[-10:]) / 10
        assert last - floor < losses[0] - floor - 0.2 * abs(losses[0] - floor)


@pytest.mark.parametrize("name", TRAINED)
def test_bfloat16_is_finite_and_losses_are_float32(name: str) -> None:
    method = build(name)
    train(method, 6)
    torch.manual_seed(0)
    exact = method(batch()).total.item()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        terms = method(batch())
    terms.total.backward()
    assert all(w.grad.isfinite().all() for w in method.parameters() if w.grad is not None)
    assert all(term.value.dtype == torch.float32 for term in terms.values())
    assert terms.total.item() == pytest.approx(exact, rel=0.1, abs=0.1)


@pytest.mark.parametrize("name", TRAINED)
def test_a_loss_is_finite_for_one_image(name: str) -> None:
    method, views = build(name), batch()
    assert method(Views(views.x[:1], views.original[:1], views.index[:1])).total.isfinite()


@pytest.mark.parametrize("name", TRAINED)
def test_the_same_seed_gives_the_same_losses_and_state_goes_through_a_file(name: str, tmp_path: Path) -> None:
    first, again = build(name), build(name)
    assert train(first, 7) == train(again, 7)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    other = build(name)
    train(other, 2)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    other.load_local_state(first.local_state())
    for method in (first, other):
        torch.manual_seed(2)
        method.before_epoch(2)
    torch.manual_seed(0)
    expected = first(batch()).total.item()
    torch.manual_seed(0)
    assert other(batch()).total.item() == expected


@pytest.mark.parametrize("name", TRAINED)
def test_stopped_in_the_second_epoch_and_resumed_equals_uninterrupted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randint(0, 256, (24, *SHAPE), generator=torch.Generator().manual_seed(0)).byte()

    def engine(folder: str) -> Engine:
        method = {"use": name, **SMALL.get(name, ENCODER)}
        config = configure({"method": method, "train": {"epochs": 3, "batch_size": 8, "log_every": 1}})
        built = session.build(config, SHAPE, len(images))
        (tmp_path / folder).mkdir(exist_ok=True)
        runtime = Runtime(torch.device("cpu"))
        return Engine(config, built, Split(images), runtime, RunFolder(tmp_path / folder), lambda *a, **k: None)

    torch.manual_seed(11)
    engine("whole").fit()
    stopped = engine("stopped")
    update = stopped.update

    def interrupted(*arguments: Any) -> Any:
        if stopped.step == 4:
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
        return update(*arguments)

    monkeypatch.setattr(stopped, "update", interrupted)
    with pytest.raises(Interrupted):
        stopped.fit()
    monkeypatch.undo()
    torch.manual_seed(12)  # nothing may depend on what the process drew before
    resumed = engine("stopped")
    path, _ = checkpoint.newest(tmp_path / "stopped" / "checkpoints")
    assert path is not None and path.name == "step-000000005"
    resumed.restore(path)
    resumed.fit()
    assert digest(tmp_path / "whole") == digest(tmp_path / "stopped")
    logs = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("whole", "stopped")]
    assert logs[0] == logs[1] != ""


SCRIPT = """
import sys
import torch
from conftest import ENCODER, SMALL
from sslx.api import Context, Views
from sslx.core.config import configure
from sslx.core.options import options_of
from sslx.core.runtime import Runtime
from test_every_method import N, SHAPE, TRAINED, batch, state

runtime = Runtime.start("cpu")
whole, n, found = batch(), N // runtime.world, {}
mine = slice(runtime.rank * n, (runtime.rank + 1) * n)
views = Views(whole.x[mine], whole.original[mine], whole.index[mine])
for name in TRAINED:
    method = configure({"method": {"use": name, **SMALL.get(name, ENCODER)}}).method
    if "norm" in options_of(type(method)):
        method.norm = "none"
    torch.manual_seed(0)
    method.build(Context(SHAPE, samples=N, steps=10))
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        with torch.no_grad():
            losses.append(method(whole).total.item())
    if losses[0] != losses[1]:
        continue  # its randomness differs between processes, as it should
    method.zero_grad()
    wrapped, optimizer, steps = runtime.wrap(method), torch.optim.SGD(method.parameters(), lr=1e-2), []
    for step in range(4):
        if step % 2 == 0:
            torch.manual_seed(step)
            method.before_epoch(step // 2)
        optimizer.zero_grad()
        loss = wrapped(views).total
        loss.backward()
        grads = {key: w.grad.clone() for key, w in method.named_parameters() if w.grad is not None}
        optimizer.step()
        method.after_step(step)
        steps.append({"loss": runtime.mean(loss.detach()), "grads": grads})
    found[name] = {"steps": steps, "state": {key: value.clone() for key, value in state(method).items()}}
torch.save(found, f"{runtime.world}-{runtime.rank}.pt")
runtime.leave(0)
"""


def test_two_processes_equal_one_with_the_joined_batch(tmp_path: Path) -> None:
    """Loss, gradient and all state, over four steps of every method whose loss is not random."""
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "PYTHONPATH": path, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    ranks = [{"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    children = [
        subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env={**shared, **rank}) for rank in [{}, *ranks]
    ]
    assert [child.wait(timeout=240) for child in children] == [0, 0, 0]
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert {"simclr", "moco", "byol", "dino", "swav", "deep-cluster", "sela", "vicreg", "rotation"} <= set(one)
    for name, alone in one.items():
        for a, b in zip(alone["steps"], first[name]["steps"], strict=True):
            assert b["loss"].item() == pytest.approx(a["loss"].item(), rel=1e-4, abs=1e-6), name
            assert_near(b["grads"], a["grads"], name)
        assert_near(first[name]["state"], alone["state"], name)
        torch.testing.assert_close(second[name]["state"], first[name]["state"], rtol=0, atol=0)


def assert_near(got: dict[str, Any], expected: dict[str, Any], name: str) -> None:
    """Each tensor to 1e-3 of its norm, or 1e-5 of the norm of all: some gradients are zero but for rounding."""
    assert got.keys() == expected.keys()
    total = torch.stack([tensor.double().norm() for tensor in expected.values()]).norm()
    for key, tensor in expected.items():
        distance = (got[key].double() - tensor.double()).norm()
        assert distance <= max(1e-3 * tensor.double().norm(), 1e-5 * total), f"{name}: {key}"
