"""Checks of what latents, embeddings and classes are held to: priors, objectives and constraints."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from sslx.core.terms import Terms
from sslx.testing.components import J, N, Subject, same, state_of

# --- priors -----------------------------------------------------------------------------------------------------------


def _prior(subject: Subject, D: int = 3) -> Any:
    """In double precision, as a density is compared with others here."""
    return subject.build(latent=D).double()


def _latents(D: int = 3, views: int = J) -> Tensor:
    return torch.randn(N, views, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _proper(subject: Subject, D: int) -> Any:
    prior = _prior(subject, D)
    if not prior.proper:
        raise SkipTest("it is improper: it defines no sample")
    return prior


def density_is_a_number_for_each_set(subject: Subject) -> None:
    """(N, J, D) -> (N,), for any J, and that of a set does not depend on the others."""
    prior = _prior(subject)
    for views in (1, 2, 3):
        z = _latents(views=views)
        log_p = prior.log_prob(z)
        assert log_p.shape == (N,) and log_p.isfinite().all(), f"expected (N,) finite numbers, got {tuple(log_p.shape)}"
        torch.testing.assert_close(prior.log_prob(z[:2]), log_p[:2])


def gradient_is_that_of_finite_differences(subject: Subject) -> None:
    """Of the log density in random directions, in double precision, to 1e-4."""
    prior, z, h = _prior(subject), _latents().requires_grad_(), 1e-5
    (gradient,) = torch.autograd.grad(prior.log_prob(z).sum(), z)
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(3), dtype=z.dtype)
    with torch.no_grad():
        expected = (prior.log_prob(z + h * direction) - prior.log_prob(z - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(dim=(1, 2)), expected, rtol=1e-4, atol=1e-4)


def draws_are_sets_of_related_latents(subject: Subject) -> None:
    """`sample(n, J)` is (n, J, D), and torch's seed alone decides it."""
    prior, draws = _proper(subject, 3), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        with torch.no_grad():
            draws.append(prior.sample(5, 2))
    assert draws[0].shape == (5, 2, 3) and draws[0].isfinite().all(), f"expected (5, 2, 3), got {tuple(draws[0].shape)}"
    assert draws[0].equal(draws[1]), "the same seed gives other draws"
    assert not draws[0].equal(draws[2]), "another seed gives the same draws"


def density_integrates_to_one(subject: Subject) -> None:
    """Over two views of two dimensions, ∫ p = E[p/q] of 10⁵ draws of a wide Student's t distribution q."""
    prior, ν = _proper(subject, 2), 3.0
    torch.manual_seed(0)
    with torch.no_grad():
        z = prior.sample(20_000, 2).flatten(1)  # (n, 4)
        (scale, flat), mean, d = torch.linalg.cholesky_ex(1.5 * z.T.cov()), z.mean(dim=0), z.shape[1]
        assert not flat, "its draws lie in a subspace, where no density is finite"
        normal = torch.randn(100_000, d, dtype=z.dtype)
        chi = 2 * torch._standard_gamma(torch.full((len(normal), 1), ν / 2, dtype=z.dtype))
        t = normal / (chi / ν).sqrt()
        log_q = (
            math.lgamma((ν + d) / 2) - math.lgamma(ν / 2) - d / 2 * math.log(ν * math.pi)
            - scale.diagonal().log().sum() - (ν + d) / 2 * (t.square().sum(dim=1) / ν).log1p()
        )  # fmt: skip
        ratio = (prior.log_prob((mean + t @ scale.T).unflatten(1, (2, -1))) - log_q).exp()
    _is_zero(ratio - 1, "the integral of the density, less one", 0.01)


def draws_have_the_density(subject: Subject) -> None:
    """Stein's identity, E[zₐ ∂log p/∂z_b] = -δₐ_b and E[∂log p/∂z_b] = 0, over 2·10⁴ draws of two views.

    It holds where the density is continuous and vanishes far away. A wrong mean, scale or relation of views breaks it.
    """
    prior = _proper(subject, 3)
    torch.manual_seed(0)
    with torch.no_grad():
        z = prior.sample(20_000, 2)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(z).sum(), z)
    x, g = z.detach().flatten(1), gradient.flatten(1)
    moments = torch.einsum("na,nb->nab", x, g) + torch.eye(x.shape[1], dtype=x.dtype)
    _is_zero(moments.flatten(1), "E[z ∂log p] + 1", 0.0)
    _is_zero(g, "E[∂log p]", 0.0)


def _is_zero(x: Tensor, what: str, tolerance: float) -> None:
    """The means of (n, ...) are within six standard errors of zero: one in a billion is not, by chance."""
    error = x.std(dim=0) / len(x) ** 0.5
    excess = x.mean(dim=0).abs() - 6 * error - tolerance
    worst = int(excess.argmax())
    mean, se = x.mean(dim=0).flatten()[worst].item(), error.flatten()[worst].item()
    assert excess.max() <= 0, f"{what}: {mean:.4f} ± {se:.4f}"


# --- objectives -------------------------------------------------------------------------------------------------------

_D = 6


def _embeddings(views: int) -> tuple[Tensor, Tensor]:
    """Of the trained branch (N, V, D), and of the target branch (N, J, D)."""
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(N, 1, _D, generator=generator)
    online = image + 0.5 * torch.randn(N, views, _D, generator=generator)
    return online.requires_grad_(), (image + 0.5 * torch.randn(N, J, _D, generator=generator))


def _loss(objective: Any, online: Tensor, target: Tensor) -> Tensor:
    torch.manual_seed(0)
    terms = objective(online, target)
    assert isinstance(terms, Terms), f"forward must return Terms, it returned {type(terms).__name__}"
    return terms.total


def loss_of_embeddings_has_gradients(subject: Subject) -> None:
    """Finite, for two views and for further ones of local crops, V > J."""
    for views in (J, J + 2):
        online, target = _embeddings(views)
        loss = _loss(subject.build(latent=_D), online, target)
        assert loss.shape == () and loss.isfinite(), f"expected a finite scalar, got {loss}"
        loss.backward()
        assert online.grad is not None and online.grad.isfinite().all() and online.grad.any(), "no gradient"


def order_of_images_is_of_no_matter(subject: Subject) -> None:
    """The order in which processes are gathered decides nothing."""
    online, target = _embeddings(J)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    expected = _loss(subject.build(latent=_D), online, target)
    torch.testing.assert_close(_loss(subject.build(latent=_D), online[order], target[order]), expected)


def loss_alone_changes_no_state(subject: Subject) -> None:
    """What an objective remembers changes in `after_step`: `forward` may be repeated."""
    objective, (online, target) = subject.build(latent=_D), _embeddings(J)
    before = state_of(objective)
    first, again = _loss(objective, online, target), _loss(objective, online, target)
    assert first.equal(again), "the loss is another one the second time"
    assert same(state_of(objective), before), "forward changes its state"


# --- constraints ------------------------------------------------------------------------------------------------------


def _rows(rule: Any, make: Callable[[int, int], Tensor]) -> list[Tensor]:
    return [make(i, d) for i, d in enumerate(rule.domains)]


def probability_is_that_of_independent_variables(subject: Subject) -> None:
    """It is linear in the distribution of each variable, 1 or 0 for values that are certain, and so a probability."""
    rule = subject.build().double()
    generator = torch.Generator().manual_seed(2)
    log_p = _rows(rule, lambda i, d: torch.randn(N, d, generator=generator, dtype=torch.float64).log_softmax(dim=1))
    found = rule(log_p)
    assert found.shape == (N,) and (found <= 1e-9).all(), "expected (B,) log-probabilities"
    for i, d in enumerate(rule.domains):
        total = torch.zeros(N, dtype=torch.float64)
        for value in range(d):
            certain = torch.full((N, d), -torch.inf, dtype=torch.float64).index_fill(1, torch.tensor(value), 0.0)
            total += log_p[i][:, value].exp() * rule([*log_p[:i], certain, *log_p[i + 1 :]]).exp()
        torch.testing.assert_close(total, found.exp(), rtol=1e-6, atol=1e-9)


def gradient_of_the_constraint_is_finite(subject: Subject) -> None:
    """Also where some values are all but impossible."""
    rule = subject.build()
    generator = torch.Generator().manual_seed(2)
    logits = _rows(rule, lambda i, d: 20 * torch.randn(N, d, generator=generator))
    for x in logits:
        x.requires_grad_()
    rule([x.log_softmax(dim=1) for x in logits]).sum().backward()
    bad = [i for i, x in enumerate(logits) if x.grad is None or not x.grad.isfinite().all()]
    assert not bad, f"no finite gradient of variables {bad}"


CHECKS = {
    "prior": (
        density_is_a_number_for_each_set,
        gradient_is_that_of_finite_differences,
        draws_are_sets_of_related_latents,
        density_integrates_to_one,
        draws_have_the_density,
    ),
    "objective": (loss_of_embeddings_has_gradients, order_of_images_is_of_no_matter, loss_alone_changes_no_state),
    "constraint": (probability_is_that_of_independent_variables, gradient_of_the_constraint_is_finite),
}
