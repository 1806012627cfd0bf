"""Checks of the parts that methods wire together: encoders, decoders and the distributions on top of them."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from sslx.testing.components import N, Subject, check
from sslx.testing.expect import each_by_itself, gradient, gradients, numbers, seeded

_D, _F = 4, 6  # dimensions of the latent, and width of the layer that a posterior stands on


def _distribution(found: Any, event: tuple[int, ...]) -> Distribution:
    """What a network returned, if it is a distribution over events of this shape for each of N inputs."""
    assert isinstance(found, Distribution), f"expected a distribution, got {type(found).__name__}"
    shapes = tuple(found.batch_shape), tuple(found.event_shape)
    assert shapes == ((N,), event), f"expected batch {(N,)} and event {event}, got batch {shapes[0]}, event {shapes[1]}"
    assert found.mean.dtype == torch.float32, f"the mean must be float32, it is {found.mean.dtype}"
    assert found.mean.isfinite().all(), "the mean is not finite"
    return found


def _inputs(subject: Subject) -> Tensor:
    """N inputs of a network: images, latents, or features (N, F) of a posterior."""
    shapes = {"decoder": (_D,), "posterior": (_F,)}
    if subject.kind == "encoder":
        return subject.views().original
    shape = shapes.get(subject.kind, subject.image_shape)
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(2))


@check("encoder")
@torch.no_grad()
def encodes_each_image_by_itself(subject: Subject) -> None:
    """(B, C, H, W) -> a distribution over (D,). In evaluation mode it does not depend on the rest of the batch."""
    encoder = subject.make()
    ctx = seeded(0, encoder.build, subject.context())
    assert ctx is not None and ctx.latent > 0, "build must return the context with `latent`, as self.head does"
    encoder.eval()
    _distribution(encoder(_inputs(subject)), (ctx.latent,))
    each_by_itself(lambda x: encoder(x).mean, _inputs(subject))


@check("encoder")
def draws_carry_gradients_to_every_parameter(subject: Subject) -> None:
    """Gradients reach every parameter from the second step on, as the last layer of a block may begin at zero."""
    encoder, x = subject.build(), _inputs(subject)
    if not list(encoder.parameters()):
        return  # it learns nothing, as the pixels themselves
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    encoder(x).rsample().square().sum().backward()
    optimizer.step()
    gradients(encoder, encoder(x).rsample().square().sum())


@check("decoder")
@torch.no_grad()
def decodes_each_latent_by_itself(subject: Subject) -> None:
    """(B, D) -> a distribution over (C, H, W). In evaluation mode it does not depend on the rest of the batch."""
    decoder = subject.build(latent=_D).eval()
    _distribution(decoder(_inputs(subject)), subject.image_shape)
    each_by_itself(lambda z: decoder(z).mean, _inputs(subject))


@check("decoder")
def likelihood_carries_gradients_to_every_parameter(subject: Subject) -> None:
    """Gradients of the likelihood of images reach every parameter of the decoder and the latents."""
    decoder, z = subject.build(latent=_D), _inputs(subject).requires_grad_()
    log_p = decoder(z).log_prob(subject.views().original)
    numbers(log_p, (N,), "log_prob")
    gradients(decoder, -log_p.sum())
    gradient(z, "the latents")


@check("posterior", "likelihood")
def is_a_distribution_of_its_input(subject: Subject) -> None:
    """A posterior maps (B, F) to one over (D,), and a likelihood (B, C, H, W) to one over (C, H, W)."""
    part, h = subject.build(latent=_D, features=_F), _inputs(subject).requires_grad_()
    event = (_D,) if subject.kind == "posterior" else subject.image_shape
    _distribution(part(h), event).mean.square().sum().backward()
    gradient(h, "its input")


@check("encoder", "decoder", "posterior", "likelihood")
def precision_is_float32_under_autocast(subject: Subject) -> None:
    """The last layer's output becomes float32 before it becomes a distribution: bfloat16 makes densities wrong."""
    network = subject.build(latent=_D, features=_F)
    with torch.autocast("cpu", torch.bfloat16):
        q = network(_inputs(subject))
    assert q.mean.dtype == torch.float32, f"the mean is {q.mean.dtype}"
