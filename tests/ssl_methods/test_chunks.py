"""`train.chunk`: the gradient is that of the whole batch, in the memory of a chunk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import digest, together
from test_every_method import TRAINED, build
from torch import Tensor, nn

import sslx
from sslx.api import ConfigError, Context, Encoder, Views
from sslx.core.chunks import chunks
from sslx.core.options import options_of

N, J, SHAPE = 8, 2, (3, 8, 8)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Float64 everywhere, also where a loss asks for float32 at least."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batch() -> Views:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(N, J, *SHAPE, generator=generator, dtype=torch.float64)
    return Views(x, x[:, 0], torch.arange(N))


def trained(name: str, size: int | None) -> tuple[dict[str, Tensor], bool]:
    """The weights after four steps, with the method's own batch normalization left out."""
    options = {"norm": "none"} if "norm" in options_of(type(sslx.make("method", name))) else {}
    method, views = build(name, **options).double().train(), batch()
    optimizer, used = torch.optim.SGD(method.parameters(), lr=0.01), True
    for step in range(4):
        torch.manual_seed(step)
        if step % 2 == 0:
            method.before_epoch(step // 2)
        with chunks(size) as found:
            loss = method(views).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step)
        used = found is not None and found.used
    return {key: w.detach() for key, w in method.named_parameters()}, used


@pytest.mark.parametrize("name", TRAINED)
def test_training_in_chunks_equals_training_on_whole_batches(name: str, double: None) -> None:
    expected, _ = trained(name, None)
    got, used = trained(name, 3)  # 16 views: five chunks, and one of a single view
    assert used
    for key, weight in expected.items():
        torch.testing.assert_close(got[key], weight, rtol=1e-9, atol=1e-12, msg=f"{name}: {key}")


SCRIPT = """
import torch
torch.Tensor.float = torch.Tensor.double
from conftest import ENCODER, SMALL
from test_chunks import N, SHAPE, batch
from sslx.api import Context, Views
from sslx.core.chunks import chunks
from sslx.core.training.config import configure
from sslx.core.options import options_of
from sslx.core.training.runtime import Runtime

runtime, whole, found = Runtime.start("cpu"), batch(), {}
n = N // runtime.world
mine = slice(runtime.rank * n, (runtime.rank + 1) * n)
views = Views(whole.x[mine], whole.original[mine], whole.index[mine])
for name in ("simclr", "vicreg", "swav", "byol", "mae"):
    torch.manual_seed(0)
    method = configure({"method": {"use": name, **SMALL.get(name, ENCODER)}}).method
    if "norm" in options_of(type(method)):
        method.norm = "none"
    method.build(Context(SHAPE, samples=N, steps=10))
    method.double().train()
    wrapped = runtime.wrap(method)
    with chunks(3 if runtime.world > 1 else None):
        loss = wrapped(views).total
    loss.backward()
    found[name] = {key: w.grad for key, w in method.named_parameters() if w.grad is not None}
torch.save(found, f"{runtime.world}-{runtime.rank}.pt")
runtime.leave(0)
"""


def test_two_processes_with_chunks_have_the_gradient_of_one_without(tmp_path: Path) -> None:
    together(tmp_path, SCRIPT, 1, 2)
    expected, *others = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for got in others:
        for name, gradients in expected.items():
            total = torch.stack([each.norm() for each in gradients.values()]).norm()
            for key, gradient in gradients.items():
                assert (got[name][key] - gradient).norm() <= 1e-9 * total, f"{name}: {key}"


class Noisy(Encoder):
    """Batch normalization and dropout, which depend on how a batch is split."""

    def build(self, ctx: Context) -> Context:
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.BatchNorm1d(12), nn.Dropout(0.5))
        return self.head(ctx, 12)

    def features(self, x: Tensor) -> Tensor:
        h: Tensor = self.layers(x)
        return h


def test_a_chunk_that_is_computed_again_has_the_same_random_numbers_and_moves_no_statistics_again() -> None:
    def outcome(chunked: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
        torch.manual_seed(0)
        encoder = Noisy(posterior={"use": "delta"})
        encoder.build(Context(SHAPE, samples=N))
        x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(2)
        if chunked:
            with chunks(4):
                z = encoder(x).mean
        else:
            z = encoder.posterior(torch.cat([encoder.features(part) for part in x.split(4)])).mean
        z.square().sum().backward()
        return [w.grad for w in encoder.parameters() if w.grad is not None], dict(encoder.named_buffers())

    (gradients, buffers), (expected, moved) = outcome(True), outcome(False)
    for got, gradient in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, gradient)
    for name, buffer in moved.items():
        torch.testing.assert_close(buffers[name], buffer)
    assert moved["layers.2.num_batches_tracked"] == 2


def kept(size: int | None) -> int:
    """Bytes that the forward pass of vicreg keeps for the backward pass."""
    method = build("vicreg", encoder={"use": "cnn"}, norm="none").train()
    memory: dict[int, int] = {}

    def count(x: Tensor) -> Tensor:
        memory[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    x = torch.rand(64, J, *SHAPE)
    with chunks(size), torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
        loss = method(Views(x, x[:, 0], torch.arange(64))).total
    loss.backward()
    return sum(memory.values())


def test_the_forward_pass_of_a_chunk_is_not_kept() -> None:
    assert kept(8) < kept(None) / 5


PEAK = """
import resource, sys, torch
from sslx.api import Context, Views
from sslx.core.chunks import chunks
from sslx.core.training.config import configure

size, n = int(sys.argv[1]) or None, 4096
method = configure({"method": {"use": "vicreg", "encoder": "cnn", "norm": "none"}}).method
method.build(Context((3, 32, 32), samples=n))
x = torch.rand(n, 2, 3, 32, 32)

def step(n, size):
    with chunks(size):
        loss = method(Views(x[:n], x[:n, 0], torch.arange(n))).total
    loss.backward()
    method.zero_grad()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = step(32, 16)
print(step(n, size) - before)
"""


@pytest.mark.skipif(not os.environ.get("SSLX_LONG"), reason="takes half a minute; SSLX_LONG=1 runs it")
def test_a_batch_of_4096_in_chunks_of_64_needs_a_tenth_of_the_memory() -> None:
    def peak(size: int) -> int:
        words = [sys.executable, "-c", PEAK, str(size)]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    assert peak(64) < peak(0) / 10


def test_a_run_in_chunks_resumes_exactly_and_says_what_changes(tiny_run: Any, capsys: Any) -> None:
    whole = tiny_run("simclr", "whole", train={"chunk": 7})
    said = "batch normalization has the statistics of 7 views, not of the batch"
    assert said not in capsys.readouterr().err, "only the head is normalized, which sees the whole batch"
    network = {"use": "resnet18-small", "widths": [4, 4, 4, 4, 4]}
    tiny_run("simclr", "normalized", method={"encoder": network}, train={"chunk": 7}, evaluators=[])
    assert said in capsys.readouterr().err
    part = tiny_run("simclr", "part", train={"chunk": 7, "epochs": 1})
    sslx.resume(part.path, changes={"train.epochs": 2})
    assert digest(part.path) == digest(whole.path)
    with pytest.raises(ConfigError, match=r"chunk: torch\.compile cannot repeat"):
        tiny_run("simclr", "compiled", train={"chunk": 7, "compile": True})
