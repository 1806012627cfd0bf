"""Checks of losses on latents, embeddings and classes: priors, objectives and constraints."""

import math
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor
from torch.distributions import Distribution

from sslx.core.distributions import diagonal_normal
from sslx.testing.components import J, N, Subject, check, same, state_of
from sslx.testing.expect import draws, each_by_itself, gradient, loss_of, numbers, repeatable, seeded


def _prior(subject: Subject, D: int = 3) -> Any:
    """A prior of D dimensions in double precision, for precise comparisons of densities."""
    weight = torch.randn(math.prod(subject.image_shape), D, generator=torch.Generator().manual_seed(3))

    def posterior(x: Tensor) -> Distribution:
        """A linear encoder, for priors that need one."""
        mean = x.flatten(1) @ weight.to(x) / len(weight) ** 0.5
        return diagonal_normal(mean, torch.zeros_like(mean))

    return subject.build(latent=D, posterior=posterior).double()


def _latents(views: int = J) -> Tensor:
    return torch.randn(N, views, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def _proper(subject: Subject, D: int = 3) -> Any:
    prior = _prior(subject, D)
    if not prior.proper:
        raise SkipTest("the prior is improper, so nothing can be drawn from it")
    return prior


@check("prior")
def density_is_a_number_for_each_set(subject: Subject) -> None:
    """(N, J, D) -> (N,) for any J, and the density of a set does not depend on the other sets."""
    prior = _prior(subject)
    for views in (1, 2, 3):
        numbers(each_by_itself(prior.log_prob, _latents(views)), (N,), "log_prob")


@check("prior")
def gradient_is_that_of_finite_differences(subject: Subject) -> None:
    """The gradient of the log density equals finite differences in double precision, to 1e-4."""
    prior, z = _prior(subject), _latents().requires_grad_()
    correct = torch.autograd.gradcheck(prior.log_prob, z, rtol=1e-4, atol=1e-4, raise_exception=False)
    assert correct, "the gradient of log_prob differs from finite differences"


@check("prior")
def draws_are_sets_of_related_latents(subject: Subject) -> None:
    """`sample(n, J)` is (n, J, D) and depends on torch's seed alone."""
    draws(_proper(subject).sample, (5, 2), (5, 2, 3))


@check("prior")
@torch.no_grad()
def density_integrates_to_one(subject: Subject) -> None:
    """Over two views of two dimensions, ∫ p = E[p/q] of 10⁵ draws of a wide Student's t distribution q."""
    from scipy.stats import multivariate_t

    prior = _proper(subject, 2)
    z = seeded(0, prior.sample, 20_000, 2).flatten(1)  # (n, 4)
    covariance = z.T.cov()
    assert torch.linalg.matrix_rank(covariance) == 4, "its draws lie in a subspace, where no density is finite"
    q = multivariate_t(z.mean(dim=0).numpy(), 1.5 * covariance.numpy(), df=3, seed=0)
    x = q.rvs(100_000)
    log_p = prior.log_prob(torch.from_numpy(x).unflatten(1, (2, 2)))
    _is_zero((log_p - torch.from_numpy(q.logpdf(x))).exp() - 1, "the integral of the density, less one", 0.01)


@check("prior")
def draws_have_the_density(subject: Subject) -> None:
    """Stein's identity, E[zₐ ∂log p/∂z_b] = -δₐ_b and E[∂log p/∂z_b] = 0, over 2·10⁴ draws of two views.

    It holds where the density is continuous and vanishes far away. A wrong mean, scale or relation of views breaks it.
    """
    prior = _proper(subject)
    with torch.no_grad():
        z = seeded(0, prior.sample, 20_000, 2)
    z.requires_grad_()
    (slope,) = torch.autograd.grad(prior.log_prob(z).sum(), z)
    x, g = z.detach().flatten(1), slope.flatten(1)
    moments = torch.einsum("na,nb->nab", x, g) + torch.eye(x.shape[1], dtype=x.dtype)
    _is_zero(moments.flatten(1), "E[z ∂log p] + 1")
    _is_zero(g, "E[∂log p]")


def _is_zero(x: Tensor, what: str, tolerance: float = 0.0) -> None:
    """The means of (n, ...) are within six standard errors of zero. Chance alone exceeds that once in a billion."""
    mean, error = x.mean(dim=0), x.std(dim=0) / len(x) ** 0.5
    excess = mean.abs() - 6 * error - tolerance
    worst = excess.argmax()
    assert excess.max() <= 0, f"{what}: {mean.flatten()[worst]:.4f} ± {error.flatten()[worst]:.4f}"


_D = 6


def _embeddings(views: int = J) -> tuple[Tensor, Tensor]:
    """Embeddings of the trained branch (N, V, D) and of the target branch (N, J, D)."""
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(N, 1, _D, generator=generator)
    online = image + 0.5 * torch.randn(N, views, _D, generator=generator)
    return online.requires_grad_(), (image + 0.5 * torch.randn(N, J, _D, generator=generator))


def _loss(subject: Subject, online: Tensor, target: Tensor) -> Tensor:
    return loss_of(seeded(0, subject.build(latent=_D), online, target))


@check("objective")
def loss_of_embeddings_has_gradients(subject: Subject) -> None:
    """Loss and gradient are finite, for two views and for additional views of local crops (V > J)."""
    for views in (J, J + 2):
        online, target = _embeddings(views)
        _loss(subject, online, target).backward()
        gradient(online, "the embeddings")


@check("objective")
def order_of_images_is_of_no_matter(subject: Subject) -> None:
    """The loss does not depend on the order of the images, and so not on that in which processes are gathered."""
    online, target = _embeddings()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(_loss(subject, online[order], target[order]), _loss(subject, online, target))


@check("objective")
def loss_alone_changes_no_state(subject: Subject) -> None:
    """What an objective remembers changes in `after_step` and not in `forward`, which may be repeated."""
    objective, (online, target) = subject.build(latent=_D), _embeddings()
    before = state_of(objective)
    repeatable(lambda: objective(online, target).total)
    assert same(state_of(objective), before), "forward changes its state"


@check("constraint")
def probability_is_that_of_independent_variables(subject: Subject) -> None:
    """The probability is linear in the distribution of each variable, and 1 or 0 for values that are certain."""
    rule = subject.build().double()
    generator = torch.Generator().manual_seed(2)
    log_p = [torch.randn(N, d, generator=generator, dtype=torch.float64).log_softmax(dim=1) for d in rule.domains]
    found = rule(log_p)
    assert found.shape == (N,) and (found <= 1e-9).all(), "expected (B,) log-probabilities"
    for i, d in enumerate(rule.domains):
        total = torch.zeros(N, dtype=torch.float64)
        for value in range(d):
            certain = torch.full((N, d), -torch.inf, dtype=torch.float64).index_fill(1, torch.tensor(value), 0.0)
            total += log_p[i][:, value].exp() * rule([*log_p[:i], certain, *log_p[i + 1 :]]).exp()
        torch.testing.assert_close(total, found.exp(), rtol=1e-6, atol=1e-9)


@check("constraint")
def gradient_of_the_constraint_is_finite(subject: Subject) -> None:
    """Gradients are finite even where some values are almost impossible."""
    rule = subject.build()
    generator = torch.Generator().manual_seed(2)
    logits = [(20 * torch.randn(N, d, generator=generator)).requires_grad_() for d in rule.domains]
    rule([x.log_softmax(dim=1) for x in logits]).sum().backward()
    bad = [i for i, x in enumerate(logits) if x.grad is None or not x.grad.isfinite().all()]
    assert not bad, f"the gradients of variables {bad} are not finite"
