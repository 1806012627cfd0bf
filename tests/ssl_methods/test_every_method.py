"""What holds for every method that is installed, whatever it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ENCODER, SMALL, together

from sslx.api import Context, Views
from sslx.core.training.config import configure
from sslx.plugins.registry import registry
from sslx.testing.components import arity_of
from sslx.testing.methods import train

N, J, SHAPE = 8, 2, (3, 8, 8)
METHODS = list(registry().providers("method"))
TRAINED = [name for name in METHODS if name != "random"]


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    method = configure({"method": {"use": name, **SMALL.get(name, ENCODER), **options}}).method
    method.build(Context(SHAPE, samples=N, views=J, steps=200, arity=arity_of(method)))
    return method


def batch(n: int = N) -> Views:
    """Images of their own colours, whose views differ by noise."""
    generator = torch.Generator().manual_seed(1)
    original = torch.rand(n, *SHAPE, generator=generator)
    x = original[:, None] + 0.1 * torch.rand(n, J, *SHAPE, generator=generator)
    return Views(x / 1.1, original, torch.arange(n))


#: Methods whose loss moves with its target, or has a high floor. Of these the images of the batch must separate.
MOVING = (
    "cor-info-max",
    "instance-discrimination",
    "moco",
    "moco-v2",
    "dino",
    "ibot",
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


@pytest.mark.parametrize("name", MOVING)
def test_training_separates_the_images_of_a_batch(name: str) -> None:
    """The others are held to a falling loss, by the checks of sslx.testing."""
    method = build(name)
    before = separation(method)
    train(method, batch(), 200)
    times = 1 if name == "ibot" else 5  # a mean of tokens averages the noise away before training as well
    assert separation(method) > times * before


SCRIPT = """
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from sslx.api import Context, Views
from sslx.core.training.config import configure
from sslx.core.training.runtime import Runtime
from sslx.testing.components import arity_of, state_of
from test_every_method import CASES, SHAPE, batch

class Still(TorchDispatchMode):  # noise is zero, as processes draw other numbers than one alone
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        random = torch.Tag.nondeterministic_seeded in function.tags and isinstance(out, torch.Tensor)
        return out.zero_() if random else out

torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
runtime, n = Runtime.start("cpu"), 12
whole, share, found = batch(n), n // runtime.world, {}
mine = slice(runtime.rank * share, (runtime.rank + 1) * share)
views = Views(whole.x[mine].double(), whole.original[mine].double(), whole.index[mine])
for case, options in CASES.items():
    method = configure({"method": options}).method
    torch.manual_seed(0)
    method.build(Context(SHAPE, samples=n, steps=10, arity=arity_of(method)))
    wrapped, optimizer, steps = runtime.wrap(method), torch.optim.SGD(method.parameters(), lr=1e-2), []
    for step in range(2):
        torch.manual_seed(step)
        method.before_epoch(step)
        with Still():
            loss = wrapped(views).total
            optimizer.zero_grad()
            loss.backward()
        grads = {key: w.grad.clone() for key, w in method.named_parameters() if w.grad is not None}
        optimizer.step()
        method.after_step(step)
        steps.append({"loss": runtime.mean(loss.detach()), "grads": grads})
    state = {key: value for key, value in state_of(method).items() if not key.startswith("local.")}
    found[case] = {"steps": steps, "state": state}
torch.save(found, f"{runtime.world}-{runtime.rank}.pt")
runtime.leave(0)
"""

#: Every method with its own networks, and the other networks.
CASES: dict[str, dict[str, Any]] = {
    **{name: {"use": name} for name in TRAINED},
    **{name: {"use": name, "clusters": 4} for name in ("deep-cluster", "sela")},
    "small resnets": {"use": "vae", "encoder": "resnet18-small", "decoder": "resnet18-small"},
    "cnn": {"use": "simclr", "encoder": "cnn"},
    "a teacher": {"use": "moco", "encoder": "resnet18-small"},
}


def test_two_processes_equal_one_with_the_joined_batch(tmp_path: Path) -> None:
    """Loss, gradient and all shared state, over two steps of every method with its own networks."""
    together(tmp_path, SCRIPT, 1, 2)
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert list(one) == list(CASES)
    for name, alone in one.items():
        for a, b in zip(alone["steps"], first[name]["steps"], strict=True):
            assert b["loss"].item() == pytest.approx(a["loss"].item(), rel=1e-6, abs=1e-9), name
            assert_near(b["grads"], a["grads"], name)
        assert_near(first[name]["state"], alone["state"], name)
        torch.testing.assert_close(second[name]["state"], first[name]["state"], rtol=0, atol=0)


def assert_near(got: dict[str, Any], expected: dict[str, Any], name: str) -> None:
    """Each tensor to 1e-6 of its norm, or 1e-9 of the norm of all: some gradients are zero but for rounding."""
    assert got.keys() == expected.keys()
    total = torch.stack([tensor.double().norm() for tensor in expected.values()]).norm()
    for key, tensor in expected.items():
        distance = (got[key].double() - tensor.double()).norm()
        assert distance <= max(1e-6 * tensor.double().norm(), 1e-9 * total), f"{name}: {key}"
