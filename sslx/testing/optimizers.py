"""Checks of optimizers, on a small regression."""

import io
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslx.testing.components import Subject, check, same, state_of


class _Fit:
    """A network with its optimizer, whose learning rate is a tensor of one number, as in a run."""

    def __init__(self, subject: Subject, **options: Any) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        part = subject.make(**options)
        self.optimizer: torch.optim.Optimizer = part.build(part.groups(self.network))
        self.rate = torch.tensor(part.lr, dtype=torch.float64)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def steps(self, n: int) -> list[float]:
        """The losses of n steps on all data."""
        x, losses = torch.randn(64, 4, generator=torch.Generator().manual_seed(1)), []
        for _ in range(n):
            self.optimizer.zero_grad()
            loss = F.mse_loss(self.network(x), x.sin().sum(dim=1, keepdim=True))
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    @property
    def weights(self) -> dict[str, Tensor]:
        return state_of(self.network)


@check("optimizer")
def lowers_the_loss_of_a_regression(subject: Subject) -> None:
    """The loss is lower after 100 steps at the learning rate of its options."""
    losses = _Fit(subject).steps(100)
    assert losses[-1] < losses[0], f"the loss goes from {losses[0]:.4g} to {losses[-1]:.4g}"


@check("optimizer")
def steps_are_the_same_every_time(subject: Subject) -> None:
    """A step is a function of weights, gradients and state, whatever the state of torch's generator."""
    fits = _Fit(subject), _Fit(subject)
    for seed, fit in enumerate(fits):
        torch.manual_seed(seed)
        fit.steps(3)
    assert same(fits[0].weights, fits[1].weights), "the same steps lead to different weights"


@check("optimizer")
def training_continues_from_a_file(subject: Subject) -> None:
    """An optimizer that takes over the state of another one from a file makes the same steps, bit for bit."""
    first, other = _Fit(subject), _Fit(subject)
    first.steps(3)
    other.network.load_state_dict(first.network.state_dict())
    file = io.BytesIO()
    torch.save(first.optimizer.state_dict(), file)
    file.seek(0)
    other.optimizer.load_state_dict(torch.load(file, weights_only=True))
    for fit in (first, other):
        fit.steps(3)
    assert same(first.weights, other.weights), "the weights differ: keep what a step remembers in self.state"


@check("optimizer")
def rate_is_read_in_every_step(subject: Subject) -> None:
    """The learning rate is `group["lr"]`, a tensor that changes between steps. At a rate of 0 no weight moves."""
    fit = _Fit(subject)
    for rate, moves in ((1e-3, True), (0.0, False), (1e-3, True)):
        before = fit.weights
        fit.rate.fill_(rate)
        fit.steps(1)
        assert same(fit.weights, before) != moves, f"at a rate of {rate:g} the weights {'stay' if moves else 'move'}"


@check("optimizer")
def weights_without_gradient_stay(subject: Subject) -> None:
    """A weight whose gradient is None is neither moved nor decayed."""
    fit = _Fit(subject, weight_decay=0.1)
    before = fit.weights
    fit.network[0].requires_grad_(False)
    fit.steps(2)
    moved = [name for name, weight in fit.weights.items() if not weight.equal(before[name])]
    assert set(moved) == {"2.weight", "2.bias"}, f"expected the weights with a gradient to move, it was {moved}"


@check("optimizer")
def weight_decay_spares_vectors(subject: Subject) -> None:
    """Weights of two or more dimensions are decayed by `weight_decay`, and others only with `decay_vectors`."""
    everything = {"weight_decay": 0.1, "decay_vectors": True}
    for options, expected in (({"weight_decay": 0.0}, set()), ({"weight_decay": 0.1}, {2}), (everything, {1, 2})):
        fit = _Fit(subject, **options)
        fit.rate.fill_(0.1)
        for weight in fit.network.parameters():
            nn.init.ones_(weight).grad = torch.zeros_like(weight)
        fit.optimizer.step()
        moved = {weight.ndim for weight in fit.network.parameters() if (weight != 1).any()}
        assert moved == expected, f"{options}: weights of {moved} dimensions are decayed, expected {expected}"
