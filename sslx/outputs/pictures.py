"""Pictures of a trained method: reconstructions, samples, similarities, the posterior, and the plane for points."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sslx.core.capabilities import Clusters, HasDensity, Reconstructs, Samples, can
from sslx.core.console import tolerant
from sslx.core.data import Split, pixels
from sslx.core.files import replace
from sslx.core.interfaces import Method, ViewPolicy
from sslx.core.randomness import Use, permutation, seed_of, seed_torch
from sslx.outputs.plots import Subject, planes
from sslx.outputs.plots.computed import CLASSES, EACH, by_class, divergences, lower_limit, similarities

_ROWS = _COLUMNS = 8
_SIDE = 56  # small images are enlarged to about so many pixels
_CELL = 4  # pixels of a cell of similarities
_BARS, _WIDTH, _HEIGHT = 1000, 720, 160  # of the posterior: images, and pixels of the picture
_LINE = 20  # pixels above a picture, for its title


@torch.no_grad()
def pictures(
    method: Method, test: Split, device: torch.device, seed: int, folder: Path, views: ViewPolicy | None = None
) -> None:
    """Write pictures of what the method makes of test images, as far as it can, into a folder.

    `reconstructions.png`: rows of test images over rows of their reconstructions. `samples.png`: drawn images. Both
    have a title and labels.
    `similarity.png`: cosine similarities of the representations of ten classes, of eight images each. The title has the
    range of the colours. `similarity-views.png`: the same of ten images, of eight views each, made by the policy
    `views`.
    `posterior.png`: the divergence of each latent dimension from N(0, 1), for encoders with a normal distribution.

    For points there is only `plane.png`: the regions of the method's clusters and its density, with samples. A picture
    that fails is one line on standard error.
    """
    seed_torch(seed_of(Use.EVALUATION, seed))
    if test.images.dtype.is_floating_point:
        if tuple(test.images.shape[1:]) == (2, 1, 1):
            with tolerant("plane.png: not drawn"):
                if can(method, Clusters) or can(method, HasDensity):
                    subject = Subject(type(method).__name__, method, test, test, views, seed, device)
                    replace(folder / "plane.png", planes([subject]).content(".png"))
        return

    order = permutation(len(test), Use.EVALUATION, seed)

    def reconstructions(method: Reconstructs) -> Tensor:
        images = pixels(test.images[order[: _ROWS // 2 * _COLUMNS]]).to(device)
        pairs = zip(images.split(_COLUMNS), method.reconstruct(images).split(_COLUMNS), strict=True)
        return torch.cat([row for pair in pairs for row in pair])

    if can(method, Reconstructs):
        with tolerant("reconstructions.png: not drawn"):
            title = "Test images over their reconstructions"
            rows = ("test images", "reconstructions")
            draw(reconstructions(method), folder / "reconstructions.png", title, rows)
    if can(method, Samples):
        with tolerant("samples.png: not drawn"):
            draw(method.sample(_ROWS * _COLUMNS), folder / "samples.png", "Images drawn by the method")
    if len(test):
        with tolerant("similarity.png: not drawn"):
            x = pixels(test.images[by_class(test, order)])
            heat(method.represent(x.to(device)), folder / "similarity.png", "Cosine similarity of classes")
            if views is not None:
                index = order[:CLASSES]
                sizes = None if test.sizes is None else test.sizes[index]
                policy: Any = attrs.evolve(views, count=EACH)  # type: ignore[misc]
                made = policy(test.images[index], index, seed=seed, epoch=0, sizes=sizes)
                z = method.represent(made.flat.to(device))
                heat(z, folder / "similarity-views.png", "Cosine similarity of views")
        with tolerant("posterior.png: not drawn"):
            found = divergences(method, pixels(test.images[order[:_BARS]]).to(device))
            if found is not None:
                bars(*found, folder / "posterior.png")


def heat(z: Tensor, path: Path, title: str) -> None:
    """Write a picture of the cosine similarities of (n, D): red is 1, white 0 and blue -1.

    If none is negative, white is the lowest one, so that similarities near 1 can be told apart.
    """
    s = similarities(z)
    low = lower_limit(float(s.min()))
    white = max(low, 0.0)
    above, below = ((s - white) / (1 - white)).clamp(min=0), (-s).clamp(min=0)
    colours = torch.stack([1 - below, 1 - above - below, 1 - above])
    said = f"{title}: blue -1, white 0, red 1" if low < 0 else f"{title}: white {low:.3g}, red 1"
    draw(colours.repeat_interleave(_CELL, dim=1).repeat_interleave(_CELL, dim=2)[None], path, said)


def bars(kl: Tensor, collapsed: Tensor, path: Path) -> None:
    """Write the mean divergence of q(z_d|x) from N(0, 1) for each dimension d, (D,), the largest one first.

    A dimension that has collapsed, (D,), is red.
    """
    D, highest = len(kl), max(float(kl.max()), 1e-9)
    step = max(1, _WIDTH // D)
    picture = Image.new("RGB", (max(_WIDTH, step * D), _HEIGHT + _LINE), "white")
    pen = ImageDraw.Draw(picture)
    said = f"KL(q(z|x) | N(0, 1)) of {D} dimensions, up to {highest:.3g} nats; red: collapsed, {int(collapsed.sum())}"
    pen.text((4, 4), said, fill="black")
    for place, d in enumerate(kl.argsort(descending=True).tolist()):
        left, top = place * step, _LINE + round(_HEIGHT * (1 - float(kl[d]) / highest))
        colour = "red" if collapsed[d] else "steelblue"
        pen.rectangle((left, min(top, _HEIGHT + _LINE - 2), left + max(0, step - 2), _HEIGHT + _LINE), fill=colour)
    picture.save(png := io.BytesIO(), format="png")
    replace(path, png.getvalue())


def visible(images: Tensor) -> Tensor:
    """What a picture can show of (n, C, H, W) images: the first three channels, or the first of fewer, in [0, 1]."""
    return images[:, : 3 if images.shape[1] >= 3 else 1].clamp(0, 1)


def draw(images: Tensor, path: Path, title: str = "", rows: Sequence[str] = ()) -> None:
    """Write (n, C, H, W) floats in [0, 1] as one picture, in rows of eight with a line between them.

    Args:
        title: a line above the images.
        rows: labels to the left of the rows of images, which are repeated if there are more rows.
    """
    images = visible(images)
    images = torch.nn.functional.interpolate(images, scale_factor=max(1, _SIDE // max(images.shape[2:])))
    inside = tiled(images, _COLUMNS, gap=2, fill=0.5)
    measure = ImageDraw.Draw(inside).textlength
    left, top = int(max((measure(label) + 8 for label in rows), default=0)), _LINE if title else 0
    size = max(left + inside.width, int(measure(title)) + 8), top + inside.height
    picture = Image.new("RGB", size, "white")
    picture.paste(inside, (left, top))
    pen, height = ImageDraw.Draw(picture), images.shape[2] + 2
    pen.text((4, 4), title, fill="black")
    for i in range(len(images) // _COLUMNS if rows else 0):
        pen.text((4, top + (i + 0.5) * height), rows[i % len(rows)], fill="black", anchor="lm")
    picture.save(png := io.BytesIO(), format="png")
    replace(path, png.getvalue())


def tiled(images: Tensor, columns: int, gap: int = 0, fill: float = 0.0) -> Image.Image:
    """Images (n, C, h, w) in [0, 1] from left to right and downwards, as torchvision.utils.save_image lays them out.

    That is not used, because importing torchvision takes seconds.

    Args:
        gap: pixels between images and around them, unless there is one alone.
        fill: grey of the gaps, and of what the last row lacks.
    """
    n, _, h, w = images.shape
    across = min(columns, n)
    gap = gap if n > 1 else 0
    canvas = torch.full((3, gap + -(-n // across) * (h + gap), gap + across * (w + gap)), fill)
    for place, image in enumerate(images):
        top, left = gap + place // across * (h + gap), gap + place % across * (w + gap)
        canvas[:, top : top + h, left : left + w] = image
    return Image.fromarray(canvas.mul(255).add(0.5).clamp(0, 255).permute(1, 2, 0).to(torch.uint8).numpy())
