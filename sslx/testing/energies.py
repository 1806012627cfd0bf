"""Checks of energies: how a density of images is trained and drawn from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sslx.core.interfaces import Context, Method
from sslx.core.terms import Term, Terms
from sslx.core.views import Views
from sslx.testing.components import Subject, same, state_of


class _Bowl(Method):
    """f(x) = -w ‖x - ½‖², of which p(x) is a normal distribution around grey."""

    def build(self, ctx: Context) -> Context:
        self.w = nn.Parameter(torch.ones(()))
        self.train()
        return ctx

    def log_density(self, x: Tensor) -> Tensor:
        return -self.w * (x - 0.5).square().flatten(1).sum(dim=1)

    def represent(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, views: Views) -> Terms:
        return Terms(f=Term(self.log_density(views.flat).mean()))


def _ready(subject: Subject) -> tuple[Any, _Bowl, Tensor]:
    """The energy, a density and images."""
    energy, bowl = subject.build(), _Bowl()
    bowl.build(subject.context())
    torch.manual_seed(0)
    return energy, bowl, subject.views().original


def energy_is_finite_and_has_a_gradient(subject: Subject) -> None:
    """`forward(model, x)` returns Terms, each a finite float32 scalar, and their gradient reaches the model."""
    energy, bowl, x = _ready(subject)
    terms = energy(bowl, x)
    assert isinstance(terms, Terms), f"forward must return Terms, it returned {type(terms).__name__}"
    for name, term in terms.items():
        assert term.value.shape == () and term.value.dtype == torch.float32, f"{name} is no float32 scalar"
        assert term.value.isfinite(), f"{name} = {term.value.item()}"
    terms.total.backward()
    assert bowl.w.grad is not None and bowl.w.grad.isfinite() and bowl.w.grad != 0, f"its gradient is {bowl.w.grad}"


def energy_alone_changes_no_state(subject: Subject) -> None:
    """Chains move in `after_step`: a step that is not finite is not taken."""
    energy, bowl, x = _ready(subject)
    before, losses = state_of(energy), []
    for _ in range(2):
        torch.manual_seed(0)
        losses.append(energy(bowl, x).total)
    assert losses[0].equal(losses[1]), "the loss is another one the second time"
    assert same(state_of(energy), before), "forward changes its state"


def model_is_left_as_it_was(subject: Subject) -> None:
    """Neither training nor drawing changes the model, or whether it is in training mode."""
    energy, bowl, x = _ready(subject)
    before = state_of(bowl)
    energy(bowl, x)
    energy.after_step(0)
    assert bowl.training, "the model is in evaluation mode afterwards"
    with torch.no_grad():
        energy.sample(bowl.eval(), 3)
    assert not bowl.training and same(state_of(bowl), before), "the model is another one afterwards"


def draws_are_images_likelier_than_noise(subject: Subject) -> None:
    """`sample(model, n)` is (n, C, H, W), without gradient, and torch's seed alone decides it."""
    energy, bowl, _ = _ready(subject)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        with torch.no_grad():
            draws.append(energy.eval().sample(bowl.eval(), 20))
    x = draws[0]
    assert x.shape == (20, *subject.image_shape) and x.isfinite().all(), f"expected 20 images, got {tuple(x.shape)}"
    assert not x.requires_grad and x.equal(draws[1]) and not x.equal(draws[2]), "the seed must decide it"
    with torch.no_grad():
        drawn, noise = bowl.log_density(x).mean(), bowl.log_density(torch.rand(x.shape)).mean()
    assert drawn > noise, f"f is {drawn:.4g} on what is drawn, and {noise:.4g} on noise"


def state_of_chains_goes_on(subject: Subject) -> None:
    """Another one that takes the state over has the same terms in the next step."""
    first, bowl, x = _ready(subject)
    other, _, _ = _ready(subject)
    for step in range(3):
        torch.manual_seed(step)
        first(bowl, x)
        first.after_step(step)
    other.load_state_dict(first.state_dict())
    other.load_local_state(first.local_state())
    losses = []
    for energy in (first, other):
        torch.manual_seed(9)
        losses.append(energy(bowl, x).total.item())
    assert losses[0] == losses[1], f"{losses[0]} before, {losses[1]} after"


CHECKS = {
    "energy": (
        energy_is_finite_and_has_a_gradient,
        energy_alone_changes_no_state,
        model_is_left_as_it_was,
        draws_are_images_likelier_than_noise,
        state_of_chains_goes_on,
    )
}
