"""The log-variance of q(z|x): that of the papers where their models are, and finite elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sslx.api import Context, Views
from sslx.core.training.config import configure
from sslx.ssl_methods.parts.posteriors import DeltaPosterior, GaussianPosterior, TamedGaussianPosterior


def test_a_tamed_log_variance_is_that_of_the_papers_inside_and_finite_outside() -> None:
    tamed = TamedGaussianPosterior().log_variance
    inside = torch.linspace(-30, 3, 1000).requires_grad_()
    assert torch.equal(tamed(inside), inside)
    tamed(inside).sum().backward()
    assert inside.grad is not None and torch.equal(inside.grad, torch.ones(1000))
    outside = torch.tensor([-1e30, -1e4, -31.0, 4.0, 80.0, 1e30], dtype=torch.float64, requires_grad=True)
    values = tamed(outside)
    torch.testing.assert_close(
        values,
        torch.tensor(
            [-30 - (e := torch.tensor(1e30).double().log().item()), -39.2075, -30.6931, 3.6931, 7.3567, 3 + e]
        ).double(),
        rtol=1e-4,
        atol=0,
    )
    (gradient,) = torch.autograd.grad(values.sum(), outside)
    assert (gradient > 0).all() and (gradient <= 1).all()
    assert (values.float() / 2).exp().log().isfinite().all()  # σ neither overflows nor becomes zero in float32


def test_the_first_steps_of_a_residual_network_do_not_spike() -> None:
    networks = {"encoder": {"use": "resnet18-small"}, "decoder": {"use": "resnet18-small"}}
    method: Any = configure({"method": {"use": "vae", **networks}}).method
    torch.manual_seed(1)
    method.build(Context((3, 32, 32), 100, 1))
    x = torch.rand(32, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)  # the default rate
    losses = []
    for _ in range(4):  # the papers' form has 9e7 in the fourth
        loss = method(Views(x, x[:, 0], torch.arange(32))).total
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert max(losses) == losses[0]


@pytest.mark.parametrize("name", ["simvae", "vae", "beta-vae", "cr-vae", "aasae"])
def test_a_config_that_names_the_papers_form_keeps_it(name: str) -> None:
    """Version 0.1 wrote it into every config."""

    def posterior(encoder: Any) -> type:
        method: Any = configure({"method": {"use": name, "encoder": encoder}}).method
        return type(method.encoder.posterior)

    assert posterior({}) is posterior({"posterior": {"projection": [8]}}) is TamedGaussianPosterior
    assert posterior({"posterior": {"use": "gaussian", "projection": []}}) is GaussianPosterior
    assert posterior({"posterior": "delta"}) is DeltaPosterior
