"""What is computed of a method to be shown, for plots and for the pictures in the folder of a run."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import normalize

from sslx.core.capabilities import Clusters, HasDensity, Samples, can
from sslx.core.data import Split, pixels
from sslx.core.interfaces import Encoder, Method

CLASSES, EACH = 10, 8  # classes of images, and images of each
_POINTS, _GRID = 1000, 150  # of the plane
_COLLAPSED = 0.01  # nats, and part of the images that may have more


def by_class(test: Split, order: Tensor) -> Tensor:
    """Positions of test images: eight of each of the first ten classes, or eighty of all if there are no labels."""
    if test.labels is None:
        return order[: CLASSES * EACH]
    labels = test.labels[order]
    return torch.cat([order[labels == each][:EACH] for each in labels.unique()[:CLASSES]])


def similarities(z: Tensor) -> Tensor:
    """(n, D) -> cosine similarities, (n, n), on the CPU."""
    u = normalize(z.float().cpu())
    return (u @ u.T).clamp(-1, 1)


def lower_limit(lowest: float) -> float:
    """Where the colours of cosine similarities begin, which end at 1: -1, or the lowest one if none is negative."""
    return -1.0 if lowest < 0 else min(math.floor(1000 * lowest) / 1000, 0.999)


def divergences(method: Method, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """KL(q(z_d|x) ‖ N(0, 1)) in nats, the mean over images, (D,), and whether d has collapsed, (D,).

    A dimension has collapsed as the evaluator `posterior` counts it. None if the encoder gives no normal distribution.
    """
    encoder = getattr(method, "encoder", None)
    q = encoder(x) if isinstance(encoder, Encoder) else None
    if not isinstance(q, Independent) or not isinstance(q.base_dist, Normal):
        return None
    mean, scale = q.base_dist.loc.double().cpu(), q.base_dist.scale.double().cpu()
    spread = (scale.square().mean(dim=0) + mean.var(dim=0, correction=0)).sqrt()
    own = Normal(mean, scale, validate_args=False)
    prior, aggregate = Normal(0.0, 1.0), Normal(mean.mean(dim=0), spread, validate_args=False)
    collapsed = (kl_divergence(own, aggregate) < _COLLAPSED).double().mean(dim=0) >= 1 - _COLLAPSED
    return kl_divergence(own, prior).mean(dim=0), collapsed


@attrs.frozen(eq=False)
class Plane:
    """The plane as a method sees it.

    Attributes:
        across, up: coordinates of a grid, (G,) each.
        cluster: the likeliest cluster at each point of the grid, (G, G) with a row for each height, or None.
        log_density: log p(x) up to a constant, in the same way, or None.
        points: test points, (n, 2).
        samples: drawn points, (m, 2); none if the method draws none.
    """

    across: Tensor
    up: Tensor
    cluster: Tensor | None
    log_density: Tensor | None
    points: Tensor
    samples: Tensor


@torch.no_grad()
def plane(method: Method, test: Split, device: torch.device) -> Plane:
    """What a method for points makes of the part of the plane in which the test points are."""
    x = pixels(test.images[torch.arange(min(len(test), _POINTS))])[:, :, 0, 0]  # (n, 2)
    low, high = x.amin(dim=0), x.amax(dim=0)
    low, high = low - 0.2 * (high - low), high + 0.2 * (high - low)
    across, up = (torch.linspace(float(a), float(b), _GRID) for a, b in zip(low, high, strict=True))
    grid = torch.cartesian_prod(across, up)[:, :, None, None].to(device)

    def rows(values: Tensor) -> Tensor:
        return values.float().cpu().reshape(_GRID, _GRID).T

    samples = method.sample(_POINTS // 4).cpu()[:, :, 0, 0] if can(method, Samples) else x[:0]
    cluster = rows(method.cluster(grid).argmax(dim=1)) if can(method, Clusters) else None
    log_density = rows(method.log_density(grid)) if can(method, HasDensity) else None
    return Plane(across, up, cluster, log_density, x, samples)
