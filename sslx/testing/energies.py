"""Checks of energies, which train a density of images and draw from it."""

from typing import Any

import torch
from torch import Tensor, nn

from sslx.core.interfaces import Context, Method
from sslx.core.terms import Term, Terms
from sslx.core.views import Views
from sslx.testing.components import Subject, check, same, state_of
from sslx.testing.expect import draws, gradient, loss_of, repeatable, seeded


class _Bowl(Method):
    """f(x) = -w ‖x - ½‖². Its density p(x) is a normal distribution around grey."""

    def build(self, ctx: Context) -> Context:
        self.w = nn.Parameter(torch.ones(()))
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
    return energy, bowl, subject.views().original


@check("energy")
def energy_is_finite_and_has_a_gradient(subject: Subject) -> None:
    """`forward(model, x)` returns Terms, each a finite float32 scalar, and their gradient reaches the model."""
    energy, bowl, x = _ready(subject)
    loss_of(energy(bowl, x)).backward()
    gradient(bowl.w, "the model")


@check("energy")
def energy_alone_changes_no_state(subject: Subject) -> None:
    """Chains move in `after_step` and not in `forward`, which may be repeated."""
    energy, bowl, x = _ready(subject)
    before = state_of(energy)
    repeatable(lambda: energy(bowl, x).total)
    assert same(state_of(energy), before), "forward changes its state"


@check("energy")
def model_is_left_as_it_was(subject: Subject) -> None:
    """Neither training nor drawing changes the state of the model, or whether it is in training mode."""
    energy, bowl, x = _ready(subject)
    before = state_of(bowl)
    energy(bowl, x)
    energy.after_step(0)
    assert bowl.training, "the model is in evaluation mode afterwards"
    with torch.no_grad():
        energy.sample(bowl.eval(), 3)
    assert not bowl.training, "the model is in training mode afterwards"
    assert same(state_of(bowl), before), "the state of the model changes"


@check("energy")
def draws_are_images_likelier_than_noise(subject: Subject) -> None:
    """`sample(model, n)` is (n, C, H, W) without gradient, depends on torch's seed alone, and has a larger density."""
    energy, bowl, _ = _ready(subject)
    x = draws(energy.eval().sample, (bowl.eval(), 20), (20, *subject.image_shape))
    with torch.no_grad():
        drawn, noise = bowl.log_density(x).mean(), bowl.log_density(torch.rand(x.shape)).mean()
    assert drawn > noise, f"f is {drawn:.4g} on images that are drawn, and {noise:.4g} on noise"


@check("energy")
def state_of_chains_goes_on(subject: Subject) -> None:
    """An energy that takes over the state of another one has the same loss in the next step."""
    (first, bowl, x), (other, _, _) = _ready(subject), _ready(subject)
    for step in range(3):
        seeded(step, first, bowl, x)
        first.after_step(step)
    other.load_state_dict(first.state_dict())
    other.load_local_state(first.local_state())
    losses = [seeded(9, energy, bowl, x).total.item() for energy in (first, other)]
    assert losses[0] == losses[1], f"the loss is {losses[0]}, and {losses[1]} after taking over the state"
