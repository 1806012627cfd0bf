"""Checks of methods: what the engine, a resumed run and every evaluator rely on."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy
import torch

from sslx.core.capabilities import Clusters, HasDensity, Reconstructs, Samples, can
from sslx.core.data import Split
from sslx.core.terms import Terms
from sslx.core.training import checkpoint
from sslx.core.training.config import configure
from sslx.core.training.engine import Engine
from sslx.core.training.run import build
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.core.views import Views
from sslx.testing.components import J, Subject, reached, same, state_of

_STEPS = 5  # of an epoch


def train(method: Any, views: Views, steps: int, lr: float = 1e-2) -> list[float]:
    """As the engine does, on one batch. Returns the losses."""
    method.train()
    optimizer, losses = torch.optim.Adam(method.parameters(), lr=lr), []
    for step in range(steps):
        if step % _STEPS == 0:
            torch.manual_seed(1000 + step)
            method.before_epoch(step // _STEPS)
        torch.manual_seed(step)
        loss = method(views).total
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step)
    return losses


def _trained(subject: Subject) -> Any:
    method = subject.build()
    if not any(weight.requires_grad for weight in method.parameters()):
        raise SkipTest("it has nothing to train")
    return method


def loss_is_finite(subject: Subject) -> None:
    """`forward` returns Terms, each a finite float32 scalar."""
    terms = _trained(subject)(subject.views())
    assert isinstance(terms, Terms), f"forward must return Terms, it returned {type(terms).__name__}"
    for name, term in terms.items():
        assert term.value.shape == () and term.value.dtype == torch.float32, f"{name} is no float32 scalar"
        assert term.value.isfinite(), f"{name} = {term.value.item()}"


def loss_is_finite_for_one_image(subject: Subject) -> None:
    """Or for one set, of images that belong together."""
    views, n = subject.views(), subject.arity
    loss = _trained(subject)(Views(views.x[:n], views.original[:n], views.index[:n])).total
    assert loss.isfinite(), f"{loss.item()}"


def gradients_reach_every_parameter(subject: Subject) -> None:
    """Once an epoch has passed: some methods have nothing to learn before."""
    method, views = _trained(subject), subject.views()
    train(method, views, _STEPS + 1)
    reached(method, method(views).total)


def overfits_one_batch(subject: Subject) -> None:
    """In 200 steps the loss falls by a fifth of its size, or of its distance from the minimum that its terms know."""
    method, views = _trained(subject), subject.views()
    floor = sum(term.weight * (term.minimum or 0.0) for term in method(views).values())
    losses = train(method, views, 200)
    first, last = losses[0] - floor, sum(losses[-10:]) / 10 - floor
    assert last < first - 0.2 * abs(first), f"from {first:.4g} to {last:.4g} above {floor:.4g}"


def same_seed_same_loss(subject: Subject) -> None:
    """Torch is seeded before each step; whatever else is random would differ between two runs."""
    views = subject.views()
    first, second = (train(_trained(subject), views, _STEPS + 2) for _ in range(2))
    assert first == second, f"{first} and {second}"


def state_goes_through_a_file(subject: Subject) -> None:
    """Another one that takes the state over has the same loss, in the next epoch too."""
    first, other, views = _trained(subject), _trained(subject), subject.views()
    train(first, views, _STEPS + 2)
    train(other, views, 2)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(first.state_dict(), Path(folder, "state.pt"))
        other.load_state_dict(torch.load(Path(folder, "state.pt"), weights_only=True))
    other.load_local_state(first.local_state())
    losses = []
    for method in (first, other):
        torch.manual_seed(2)
        method.before_epoch(2)
        torch.manual_seed(0)
        losses.append(method(views).total.item())
    assert losses[0] == losses[1], f"{losses[0]} before, {losses[1]} after"


def resumed_equals_uninterrupted(subject: Subject) -> None:
    """From a checkpoint in the second of three epochs the engine gets to the same weights, state and metrics."""
    _trained(subject)
    n, generator = len(subject.views().x), torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3 * n, *subject.image_shape), generator=generator).byte()
    training = {"epochs": 3, "batch_size": n, "log_every": 1, "checkpoint_steps": 5, "checkpoint_keep": 9}

    def engine(folder: Path) -> Engine:
        chosen = {"use": subject.reference, **subject.options}
        config = configure({"method": chosen, "train": training, "views": {"count": J, "local": "none"}})
        method = build(config, subject.image_shape, len(images), subject.arity)
        folder.mkdir()
        runtime = Runtime(torch.device("cpu"))
        return Engine(
            config, method, Split(images, arity=subject.arity), runtime, RunFolder(folder), lambda *_, **__: None
        )

    def last(folder: Path) -> tuple[Mapping[str, Any], ...]:
        path, _ = checkpoint.newest(folder / "checkpoints")
        assert path is not None
        shared, local = checkpoint.load(path)
        return {name: value for name, value in shared.items() if "seconds" not in name}, local

    with tempfile.TemporaryDirectory() as there:
        whole, resumed = Path(there, "whole"), Path(there, "resumed")
        torch.manual_seed(11)
        engine(whole).fit()
        torch.manual_seed(12)  # nothing may depend on what the process drew before
        second = engine(resumed)
        second.restore(whole / "checkpoints" / "step-000000005")
        second.fit()
        assert same(last(whole), last(resumed)), "the states differ"
        logs = [(folder / "metrics.jsonl").read_text().splitlines()[-4:] for folder in (whole, resumed)]
        assert logs[0] == logs[1] != [], f"{logs[0]} and {logs[1]}"


def bfloat16_is_finite(subject: Subject) -> None:
    """Under autocast terms stay float32 and near those in full precision, and gradients are finite."""
    method, views = _trained(subject), subject.views()
    train(method, views, _STEPS + 1)
    torch.manual_seed(0)
    exact = method(views).total.item()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        terms = method(views)
    terms.total.backward()
    wide = [name for name, term in terms.items() if term.value.dtype != torch.float32]
    assert not wide, f"not float32: {', '.join(wide)}"
    bad = [name for name, w in method.named_parameters() if w.grad is not None and not w.grad.isfinite().all()]
    assert not bad, f"gradients that are not finite: {', '.join(bad)}"
    difference = abs(terms.total.item() - exact)
    assert difference <= 0.1 + 0.1 * abs(exact), f"{terms.total.item():.4g} instead of {exact:.4g}"


def forward_changes_no_state(subject: Subject) -> None:
    """What moves with training moves in `after_step` or `before_epoch`: a step that is not finite is not taken.

    The statistics of batch normalisation are the exception, and running averages of latents for pictures.
    """
    method, views = _trained(subject), subject.views()
    train(method, views, _STEPS + 1)
    with torch.no_grad():
        torch.manual_seed(0)
        first = method(views).total
        torch.manual_seed(0)
        assert method(views).total.equal(first), "the loss of the same batch is another one the second time"


def global_state_is_left_alone(subject: Subject) -> None:
    """Python's and numpy's generators, torch's default type and threads are the user's."""

    def everything() -> tuple[Any, ...]:
        numpys = repr(numpy.random.get_state(legacy=False))  # of arrays that `==` would compare one by one
        return random.getstate(), numpys, torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()

    before = everything()
    method, views = subject.build(), subject.views()
    if any(weight.requires_grad for weight in method.parameters()):
        train(method, views, _STEPS + 1)
    with torch.no_grad():
        method.eval().represent(views.flat)
    assert everything() == before, "a generator, the default dtype or the threads were changed"


def represents_each_image_by_itself(subject: Subject) -> None:
    """(B, C, H, W) -> (B, D), in evaluation mode without gradient: the same every time, and in any batch."""
    method, x = subject.build().eval(), subject.views().flat
    before = state_of(method)
    with torch.no_grad():
        z = method.represent(x)
        assert z.ndim == 2 and len(z) == len(x), f"expected ({len(x)}, D), got {tuple(z.shape)}"
        assert z.is_floating_point() and z.isfinite().all(), "it is not finite"
        assert z.equal(method.represent(x)), "it is another one the second time"
        torch.testing.assert_close(method.represent(x[:3]), z[:3])
    assert not z.requires_grad
    assert same(state_of(method), before), "representing images changes the method's state"


def capabilities_return_what_they_promise(subject: Subject) -> None:
    """The functions that evaluators and pictures look for, where the method has them."""
    method, x = subject.build().eval(), subject.views().flat
    found: dict[str, tuple[Any, tuple[int, ...]]] = {}
    with torch.no_grad():
        if can(method, Reconstructs):
            found["reconstruct"] = (method.reconstruct(x), x.shape)
        if can(method, HasDensity):
            found["log_density"] = (method.log_density(x), x.shape[:1])
        if can(method, Samples):
            found["sample"] = (method.sample(5), (5, *subject.image_shape))
        for name, (y, shape) in found.items():
            assert y.shape == shape and y.isfinite().all(), f"{name}: expected {tuple(shape)}, got {tuple(y.shape)}"
        if can(method, Clusters):
            log_p = method.cluster(x)
            assert log_p.ndim == 2 and len(log_p) == len(x), f"cluster: expected (B, K), got {tuple(log_p.shape)}"
            torch.testing.assert_close(log_p.exp().sum(dim=1), torch.ones(len(x)))


CHECKS = {
    "method": (
        loss_is_finite,
        loss_is_finite_for_one_image,
        gradients_reach_every_parameter,
        overfits_one_batch,
        same_seed_same_loss,
        state_goes_through_a_file,
        resumed_equals_uninterrupted,
        bfloat16_is_finite,
        forward_changes_no_state,
        global_state_is_left_alone,
        represents_each_image_by_itself,
        capabilities_return_what_they_promise,
    )
}
