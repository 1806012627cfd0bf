"""Checks of methods, on which the engine, resumed runs and every evaluator rely."""

import random
import tempfile
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy
import torch
from torch import Tensor

from sslx.core.capabilities import Clusters, HasDensity, Reconstructs, Samples, can
from sslx.core.data import Split
from sslx.core.interfaces import Module
from sslx.core.training.config import configure
from sslx.core.training.engine import Engine
from sslx.core.training.run import build
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.core.views import Views
from sslx.testing.components import J, Subject, check, same, state_of
from sslx.testing.expect import each_by_itself, gradients, loss_of, numbers, repeatable, seeded

_STEPS = 5  # in an epoch


def train(method: Any, views: Views, steps: int, lr: float = 1e-2) -> list[float]:
    """Train on one batch as the engine does. Returns the losses."""
    method.train()
    optimizer, losses = torch.optim.Adam(method.parameters(), lr=lr), []
    for step in range(steps):
        if step % _STEPS == 0:
            seeded(1000 + step, method.before_epoch, step // _STEPS)
        loss = seeded(step, method, views).total
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step)
    return losses


def _untrained(subject: Subject) -> Any:
    method = subject.build()
    if not any(weight.requires_grad for weight in method.parameters()):
        raise SkipTest("the method has nothing to train")
    return method


def _trained(subject: Subject) -> Any:
    """The method after one epoch and one step: some have nothing to learn before."""
    method = _untrained(subject)
    train(method, subject.views(), _STEPS + 1)
    return method


@check("method")
def loss_is_finite(subject: Subject) -> None:
    """`forward` returns Terms, each a finite float32 scalar."""
    loss_of(_untrained(subject)(subject.views()))


@check("method")
def loss_is_finite_for_one_image(subject: Subject) -> None:
    """The loss of one image is finite, or of one set of images that belong together."""
    views, n = subject.views(), subject.arity
    loss_of(_untrained(subject)(Views(views.x[:n], views.original[:n], views.index[:n])))


@check("method")
def gradients_reach_every_parameter(subject: Subject) -> None:
    """After one epoch, a gradient reaches every parameter that is trained, and none of the others."""
    method = _trained(subject)
    gradients(method, method(subject.views()).total)


@check("method")
def overfits_one_batch(subject: Subject) -> None:
    """In 200 steps the loss falls by a fifth of its size, or of its distance from the known minimum of its terms."""
    method, views = _untrained(subject), subject.views()
    floor = sum(term.weight * (term.minimum or 0.0) for term in method(views).values())
    losses = train(method, views, 200)
    first, last = losses[0] - floor, sum(losses[-10:]) / 10 - floor
    assert last < first - 0.2 * abs(first), f"the loss goes from {first:.4g} to {last:.4g} above {floor:.4g}"


@check("method")
def resumed_equals_uninterrupted(subject: Subject) -> None:
    """A run resumed in the second of three epochs ends with the same weights, state and metrics.

    So the seed alone decides about a run, and the state of a method goes through a file.
    """
    _untrained(subject)
    n, generator = len(subject.views().x), torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3 * n, *subject.image_shape), generator=generator).byte()
    training = {"epochs": 3, "batch_size": n, "log_every": 1, "checkpoint_steps": 5, "checkpoint_keep": 9}
    method = {"use": subject.reference, **subject.options}

    def engine(folder: Path) -> Engine:
        config = configure({"method": method, "train": training, "views": {"count": J, "local": "none"}})
        made = build(config, subject.image_shape, len(images), subject.arity)
        split, runtime = Split(images, arity=subject.arity), Runtime(torch.device("cpu"))
        folder.mkdir()
        return Engine(config, made, split, runtime, RunFolder(folder), lambda *_, **__: None, progress=False)

    def end(engine: Engine) -> tuple[Any, ...]:
        state = {name: value for name, value in engine.state().items() if "seconds" not in name}
        return state, engine.method.local_state(), engine.folder.metrics()[-4:]

    with tempfile.TemporaryDirectory() as there:
        whole = seeded(11, engine, Path(there, "whole"))
        whole.fit()
        resumed = seeded(12, engine, Path(there, "resumed"))  # nothing may depend on what the process drew before
        resumed.restore(whole.folder.checkpoints / "step-000000005")
        resumed.fit()
        assert same(end(whole), end(resumed)), "the resumed run ends with another state or other metrics"


@check("method")
def bfloat16_is_finite(subject: Subject) -> None:
    """Under autocast terms are float32 and close to those in full precision, and gradients are finite."""
    method, views = _trained(subject), subject.views()
    exact = seeded(0, method, views).total.item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(seeded(0, method, views))
    loss.backward()
    bad = [name for name, w in method.named_parameters() if w.grad is not None and not w.grad.isfinite().all()]
    assert not bad, f"gradients that are not finite: {', '.join(bad)}"
    assert abs(loss.item() - exact) <= 0.1 + 0.1 * abs(exact), f"the loss is {loss.item():.4g} instead of {exact:.4g}"


@check("method")
def forward_changes_no_state(subject: Subject) -> None:
    """What moves with training moves in `after_step` or `before_epoch`, so that `forward` may be repeated.

    Exceptions are the statistics of batch normalization, and running averages of latents for pictures.
    """
    method, views = _trained(subject), subject.views()
    before = _state_of_components(method)
    repeatable(lambda: method(views).total)
    after = _state_of_components(method)
    moved = [name for name, value in before.items() if not same(value, after[name])]
    assert not moved, f"forward changes {', '.join(moved)}, which only after_step and before_epoch may do"


def _state_of_components(method: Any) -> dict[str, Tensor]:
    """The state of the method and its parts, without that of torch's layers and other plain modules in them."""
    components = [(name, module) for name, module in method.named_modules() if isinstance(module, Module)]
    buffers = {f"{name}.{key}".lstrip("."): b for name, c in components for key, b in c.named_buffers(recurse=False)}
    return {name: value.clone() for name, value in {**buffers, **method.local_state()}.items()}


@check("method")
def global_state_is_left_alone(subject: Subject) -> None:
    """Building, training and representing change no generator of Python or numpy, nor torch's settings."""

    def everything() -> tuple[Any, ...]:
        numpys = repr(numpy.random.get_state(legacy=False))  # has arrays, which `==` would compare one by one
        return random.getstate(), numpys, torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()

    before = everything()
    method, views = subject.build(), subject.views()
    if any(weight.requires_grad for weight in method.parameters()):
        train(method, views, _STEPS + 1)
    with torch.no_grad():
        method.eval().represent(views.flat)
    assert everything() == before, "a random generator, the default dtype or the number of threads changed"


@check("method")
@torch.no_grad()
def represents_each_image_by_itself(subject: Subject) -> None:
    """(B, C, H, W) -> (B, D). In evaluation mode it is the same every time, and in every batch."""
    method, x = subject.build().eval(), subject.views().flat
    before = state_of(method)
    z = each_by_itself(method.represent, x)
    assert z.ndim == 2, f"represent must return (B, D), it returned {tuple(z.shape)}"
    numbers(z, (len(x), z.shape[1]), "represent")
    assert z.is_floating_point(), f"represent must return floats, it returned {z.dtype}"
    assert z.equal(method.represent(x)), "the same images are represented differently the second time"
    assert same(state_of(method), before), "representing images changes the state of the method"


@check("method")
@torch.no_grad()
def capabilities_return_what_they_promise(subject: Subject) -> None:
    """Functions that evaluators and pictures use return the right shapes, where the method has them."""
    method, x = subject.build().eval(), subject.views().flat
    if can(method, Reconstructs):
        numbers(method.reconstruct(x), tuple(x.shape), "reconstruct")
    if can(method, HasDensity):
        numbers(method.log_density(x), (len(x),), "log_density")
    if can(method, Samples):
        numbers(method.sample(5), (5, *subject.image_shape), "sample")
    if can(method, Clusters):
        log_p = method.cluster(x)
        assert log_p.ndim == 2 and len(log_p) == len(x), f"cluster: expected (B, K), got {tuple(log_p.shape)}"
        torch.testing.assert_close(log_p.exp().sum(dim=1), torch.ones(len(x)))
