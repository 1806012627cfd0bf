"""Assertions that the checks of several kinds share."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sslx.core.terms import Terms

_Value = TypeVar("_Value")


def seeded(seed: int, function: Callable[..., _Value], *arguments: Any) -> _Value:
    """What the function returns when torch was seeded just before."""
    torch.manual_seed(seed)
    return function(*arguments)


def numbers(x: Tensor, shape: tuple[int, ...], what: str) -> None:
    """A tensor has this shape and is finite."""
    assert x.shape == shape, f"{what}: expected shape {tuple(shape)}, got {tuple(x.shape)}"
    assert x.isfinite().all(), f"{what}: not all numbers are finite"


def loss_of(terms: Any) -> Tensor:
    """The total of what `forward` returned: Terms, each a finite float32 scalar."""
    assert isinstance(terms, Terms), f"forward must return Terms, it returned {type(terms).__name__}"
    for name, term in terms.items():
        assert term.value.dtype == torch.float32, f"{name} must be float32, it is {term.value.dtype}"
        numbers(term.value, (), name)
    return terms.total


def gradient(x: Tensor, what: str) -> None:
    """A finite gradient that is not zero has reached a tensor."""
    assert x.grad is not None and x.grad.any(), f"no gradient reaches {what}"
    assert x.grad.isfinite().all(), f"the gradient of {what} is not finite"


def gradients(module: nn.Module, loss: Tensor) -> None:
    """The gradient of the loss reaches every parameter that is trained, and none of the others."""
    module.zero_grad()
    loss.backward()
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            gradient(weight, name)
        else:
            assert weight.grad is None, f"{name} is not trained but has a gradient"


def each_by_itself(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What the function makes of a batch, in which the result for one input does not depend on the other inputs."""
    y = function(x)
    torch.testing.assert_close(function(x[:3]), y[:3])
    return y


@torch.no_grad()
def draws(sample: Callable[..., Tensor], arguments: tuple[Any, ...], shape: tuple[int, ...]) -> Tensor:
    """What `sample(*arguments)` returns: draws of this shape without gradient, which depend on torch's seed alone."""
    first, again, other = (seeded(seed, sample, *arguments) for seed in (0, 0, 1))
    numbers(first, shape, "draws")
    assert not first.requires_grad, "draws have a gradient"
    assert first.equal(again), "the same seed gives different draws"
    assert not first.equal(other), "different seeds give the same draws"
    return first


def repeatable(loss: Callable[[], Tensor]) -> None:
    """The loss is the same when it is computed again with the same seed."""
    first, again = (seeded(0, loss) for _ in range(2))
    assert first.equal(again), f"the loss is {first.item():.6g} at first and {again.item():.6g} when it is repeated"
