"""Pictures of a trained method: reconstructions, samples, similarities, the posterior, and the plane for points."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.nn.functional import normalize
from torchvision.utils import save_image

from sslx.core.capabilities import Clusters, HasDensity, Reconstructs, Samples, can
from sslx.core.console import tolerant
from sslx.core.data import Split, pixels
from sslx.core.files import replace
from sslx.core.interfaces import Encoder, Method, ViewPolicy
from sslx.core.randomness import Use, permutation, seed_of, seed_torch

_ROWS = _COLUMNS = 8
_POINTS, _GRID = 1000, 150  # of the plane
_SIDE = 56  # small images are enlarged to about so many pixels
_CLASSES, _EACH, _CELL = 10, 8, 4  # of similarities: classes or images, images or views of each, pixels of a cell
_COLLAPSED = 0.01  # nats, and part of the images that may have more
_BARS, _WIDTH, _HEIGHT = 1000, 720, 160  # of the posterior: images, and pixels of the picture


@torch.no_grad()
def pictures(
    method: Method, test: Split, device: torch.device, seed: int, folder: Path, views: ViewPolicy | None = None
) -> None:
    """Write pictures of what the method makes of test images, as far as it can, into a folder.

    `reconstructions.png`: rows of test images over rows of their reconstructions. `samples.png`: drawn images.
    `similarity.png`: cosine similarities of the representations of ten classes, of eight images each; red is 1, white 0
    and blue -1. `similarity-views.png`: the same of ten images, of eight views each, made by the policy `views`.
    `posterior.png`: the divergence of each latent dimension from N(0, 1), for encoders with a normal distribution.

    For points there is only `plane.png`: the regions of the method's clusters and its density, with samples. A picture
    that fails is one line on standard error.
    """
    seed_torch(seed_of(Use.EVALUATION, seed))
    if test.images.dtype.is_floating_point:
        if tuple(test.images.shape[1:]) == (2, 1, 1):
            with tolerant("plane.png: not drawn"):
                plane(method, test, device, folder / "plane.png")
        return

    order = permutation(len(test), Use.EVALUATION, seed)

    def reconstructions(method: Reconstructs) -> Tensor:
        images = pixels(test.images[order[: _ROWS // 2 * _COLUMNS]]).to(device)
        pairs = zip(images.split(_COLUMNS), method.reconstruct(images).split(_COLUMNS), strict=True)
        return torch.cat([row for pair in pairs for row in pair])

    if can(method, Reconstructs):
        with tolerant("reconstructions.png: not drawn"):
            draw(reconstructions(method), folder / "reconstructions.png")
    if can(method, Samples):
        with tolerant("samples.png: not drawn"):
            draw(method.sample(_ROWS * _COLUMNS), folder / "samples.png")
    if len(test):
        with tolerant("similarity.png: not drawn"):
            x = pixels(test.images[_by_class(test, order)])
            draw(heat(method.represent(x.to(device))), folder / "similarity.png")
            if views is not None:
                index = order[:_CLASSES]
                sizes = None if test.sizes is None else test.sizes[index]
                policy: Any = attrs.evolve(views, count=_EACH)  # type: ignore[misc]
                made = policy(test.images[index], index, seed=seed, epoch=0, sizes=sizes)
                draw(heat(method.represent(made.flat.to(device))), folder / "similarity-views.png")
        with tolerant("posterior.png: not drawn"):
            encoder = getattr(method, "encoder", None)
            q = encoder(pixels(test.images[order[:_BARS]]).to(device)) if isinstance(encoder, Encoder) else None
            if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
                bars(q.base_dist, folder / "posterior.png")


def _by_class(test: Split, order: Tensor) -> Tensor:
    """Positions of eight test images of each of the first ten classes, or of eighty images if there are no labels."""
    if test.labels is None:
        return order[: _CLASSES * _EACH]
    labels = test.labels[order]
    return torch.cat([order[labels == each][:_EACH] for each in labels.unique()[:_CLASSES]])


def heat(z: Tensor) -> Tensor:
    """(n, D) -> a picture of the cosine similarities, (1, 3, H, W): red is 1, white 0 and blue -1."""
    u = normalize(z.float().cpu())
    s = (u @ u.T).clamp(-1, 1)
    colours = torch.stack([1 + s.clamp(max=0), 1 - s.abs(), 1 - s.clamp(min=0)])
    return colours.repeat_interleave(_CELL, dim=1).repeat_interleave(_CELL, dim=2)[None]


def bars(q: Normal, path: Path) -> None:
    """Write the mean divergence of q(z_d|x) from N(0, 1) for each dimension d, (n, D), the largest one first.

    A dimension that has collapsed, as the evaluator `posterior` counts them, is red.
    """
    mean, variance = q.loc.double().cpu(), q.scale.double().cpu().square()

    def divergence(other_mean: Tensor, other_variance: Tensor) -> Tensor:
        ratio = variance / other_variance
        return (ratio - 1 - ratio.log() + (mean - other_mean).square() / other_variance) / 2

    kl = divergence(torch.zeros(()), torch.ones(())).mean(dim=0)
    aggregate = divergence(mean.mean(dim=0), variance.mean(dim=0) + mean.var(dim=0, correction=0))
    collapsed = (aggregate < _COLLAPSED).double().mean(dim=0) >= 1 - _COLLAPSED
    D, highest = len(kl), max(float(kl.max()), 1e-9)
    step = max(1, _WIDTH // D)
    picture = Image.new("RGB", (max(_WIDTH, step * D), _HEIGHT + 20), "white")
    pen = ImageDraw.Draw(picture)
    said = f"KL(q(z|x) | N(0, 1)) of {D} dimensions, up to {highest:.3g} nats; red: collapsed, {int(collapsed.sum())}"
    pen.text((4, 4), said, fill="black")
    for place, d in enumerate(kl.argsort(descending=True).tolist()):
        left, top = place * step, 20 + round(_HEIGHT * (1 - float(kl[d]) / highest))
        colour = "red" if collapsed[d] else "steelblue"
        pen.rectangle((left, min(top, _HEIGHT + 18), left + max(0, step - 2), _HEIGHT + 20), fill=colour)
    picture.save(png := io.BytesIO(), format="png")
    replace(path, png.getvalue())


def plane(method: Method, test: Split, device: torch.device, path: Path) -> None:
    """Write a map of the plane: the likeliest cluster and log p, each with points and samples."""
    from matplotlib.figure import Figure  # slow to import

    x = pixels(test.images[torch.arange(min(len(test), _POINTS))])[:, :, 0, 0]  # (n, 2)
    low, high = x.amin(dim=0), x.amax(dim=0)
    low, high = low - 0.2 * (high - low), high + 0.2 * (high - low)
    across, up = (torch.linspace(float(a), float(b), _GRID) for a, b in zip(low, high, strict=True))
    grid = torch.cartesian_prod(across, up)[:, :, None, None].to(device)
    panels: list[tuple[str, Callable[[Tensor], Tensor]]] = []
    if can(method, Clusters):
        panels.append(("likeliest cluster", lambda points: method.cluster(points).argmax(dim=1)))
    if can(method, HasDensity):
        panels.append(("log p(x) + constant", method.log_density))
    if not panels:
        return
    drawn = method.sample(_POINTS // 4).cpu()[:, :, 0, 0] if can(method, Samples) else x[:0]
    figure = Figure(figsize=(5 * len(panels), 4.5), layout="constrained")
    for (title, values), axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        heights = values(grid).float().cpu().reshape(_GRID, _GRID).T.numpy()
        mesh = axes.pcolormesh(across.numpy(), up.numpy(), heights, cmap="viridis", shading="nearest", rasterized=True)
        figure.colorbar(mesh, ax=axes)
        axes.scatter(*x.T.numpy(), s=2, c="white", label="test points")
        if len(drawn):
            axes.scatter(*drawn.T.numpy(), s=4, c="red", label="samples")
        axes.set(title=title, xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, facecolor="lightgrey")
    figure.savefig(png := io.BytesIO(), format="png")
    replace(path, png.getvalue())


def draw(images: Tensor, path: Path) -> None:
    """Write (n, C, H, W) floats in [0, 1] as one picture, in rows of eight with a line between them."""
    images = images[:, : 3 if images.shape[1] >= 3 else 1].clamp(0, 1)
    images = torch.nn.functional.interpolate(images, scale_factor=max(1, _SIDE // max(images.shape[2:])))
    save_image(images, png := io.BytesIO(), format="png", nrow=_COLUMNS, pad_value=0.5)
    replace(path, png.getvalue())
