"""Checks of the parts that methods wire together: encoders, decoders and the distributions on top of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from sslx.testing.components import N, Subject, reached

_D, _F = 4, 6  # of the latent, and of the layer that a posterior stands on


def _distribution(found: Any, event: tuple[int, ...]) -> Distribution:
    """What a network returned, if it is a distribution over events of this shape for each of N inputs."""
    assert isinstance(found, Distribution), f"expected a distribution, got {type(found).__name__}"
    shapes = tuple(found.batch_shape), tuple(found.event_shape)
    assert shapes == ((N,), event), f"expected batch {(N,)} and event {event}, got batch {shapes[0]}, event {shapes[1]}"
    mean = found.mean
    assert mean.dtype == torch.float32 and mean.isfinite().all(), "its mean is not float32, or not finite"
    return found


def _inputs(subject: Subject) -> Tensor:
    return subject.views().original


def encodes_each_image_by_itself(subject: Subject) -> None:
    """(B, C, H, W) -> a distribution over (D,); in evaluation mode that of an image does not depend on the others."""
    torch.manual_seed(0)
    encoder = subject.make()
    ctx = encoder.build(subject.context())
    assert ctx is not None and ctx.latent > 0, "build must return the context with `latent`, as self.head does"
    encoder.eval()
    with torch.no_grad():
        z = _distribution(encoder(_inputs(subject)), (ctx.latent,)).mean
        torch.testing.assert_close(encoder(_inputs(subject)[:3]).mean, z[:3])


def draws_carry_gradients_to_every_parameter(subject: Subject) -> None:
    """From the second step on: the last layer of a block may begin at zero."""
    encoder = subject.build()
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    encoder(_inputs(subject)).rsample().square().sum().backward()
    optimizer.step()
    reached(encoder, encoder(_inputs(subject)).rsample().square().sum())


def decodes_each_latent_by_itself(subject: Subject) -> None:
    """(B, D) -> a distribution over (C, H, W); in evaluation mode that of a latent does not depend on the others."""
    decoder = subject.build(latent=_D).eval()
    z = torch.randn(N, _D, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        x = _distribution(decoder(z), subject.image_shape).mean
        torch.testing.assert_close(decoder(z[:3]).mean, x[:3])


def likelihood_carries_gradients_to_every_parameter(subject: Subject) -> None:
    """And to the latents."""
    decoder = subject.build(latent=_D)
    z = torch.randn(N, _D, generator=torch.Generator().manual_seed(2)).requires_grad_()
    log_p = decoder(z).log_prob(_inputs(subject))
    assert log_p.shape == (N,) and log_p.isfinite().all(), f"expected (B,) finite numbers, got {tuple(log_p.shape)}"
    reached(decoder, -log_p.sum())
    assert z.grad is not None and z.grad.any(), "no gradient reaches the latents"


def precision_is_float32_under_autocast(subject: Subject) -> None:
    """Distributions of bfloat16 numbers have wrong densities: the last layer's output is cast before it becomes one."""
    known = {} if subject.provider.record.kind == "encoder" else {"latent": _D, "features": _F}
    network = subject.build(**known)
    given = {"encoder": _inputs(subject), "decoder": torch.randn(N, _D), "posterior": torch.randn(N, _F)}
    with torch.autocast("cpu", torch.bfloat16):
        q = network(given.get(subject.provider.record.kind, _inputs(subject)))
    assert q.mean.dtype == torch.float32, f"the mean is {q.mean.dtype}"


def is_a_distribution_of_its_input(subject: Subject) -> None:
    """A posterior makes (B, F) one over (D,), a likelihood (B, C, H, W) one over (C, H, W), with gradients."""
    part = subject.build(latent=_D, features=_F)
    posterior = subject.provider.record.kind == "posterior"
    given: tuple[int, ...] = (_F,) if posterior else subject.image_shape
    event: tuple[int, ...] = (_D,) if posterior else subject.image_shape
    h = torch.randn(N, *given, generator=torch.Generator().manual_seed(2)).requires_grad_()
    _distribution(part(h), event).mean.square().sum().backward()
    assert h.grad is not None and h.grad.isfinite().all() and h.grad.any(), "no gradient reaches its input"


CHECKS = {
    "encoder": (
        encodes_each_image_by_itself,
        draws_carry_gradients_to_every_parameter,
        precision_is_float32_under_autocast,
    ),
    "decoder": (
        decodes_each_latent_by_itself,
        likelihood_carries_gradients_to_every_parameter,
        precision_is_float32_under_autocast,
    ),
    "posterior": (is_a_distribution_of_its_input, precision_is_float32_under_autocast),
    "likelihood": (is_a_distribution_of_its_input, precision_is_float32_under_autocast),
}
