"""Pictures of a trained method: reconstructions of test images, samples, and the plane for points."""

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import save_image

from sslx.core.capabilities import Clusters, HasDensity, Reconstructs, Samples, can
from sslx.core.console import tolerant
from sslx.core.data import Split, pixels
from sslx.core.files import replace
from sslx.core.interfaces import Method
from sslx.core.randomness import Use, permutation, seed_of, seed_torch

_ROWS = _COLUMNS = 8
_POINTS, _GRID = 1000, 150  # of the plane
_SIDE = 56  # small images are enlarged to about so many pixels


@torch.no_grad()
def pictures(method: Method, test: Split, device: torch.device, seed: int, folder: Path) -> None:
    """Write `reconstructions.png`, rows of test images over rows of their reconstructions, and `samples.png`.

    Each is made if the method can. For points it is `plane.png`: the regions of the method's clusters and its density,
    with samples. A picture that fails is one line on standard error.
    """
    seed_torch(seed_of(Use.EVALUATION, seed))
    if test.images.dtype.is_floating_point:
        if tuple(test.images.shape[1:]) == (2, 1, 1):
            with tolerant("plane.png: not drawn"):
                plane(method, test, device, folder / "plane.png")
        return

    def reconstructions(method: Reconstructs) -> Tensor:
        index = permutation(len(test), Use.EVALUATION, seed)[: _ROWS // 2 * _COLUMNS]
        images = pixels(test.images[index]).to(device)
        pairs = zip(images.split(_COLUMNS), method.reconstruct(images).split(_COLUMNS), strict=True)
        return torch.cat([row for pair in pairs for row in pair])

    if can(method, Reconstructs):
        with tolerant("reconstructions.png: not drawn"):
            draw(reconstructions(method), folder / "reconstructions.png")
    if can(method, Samples):
        with tolerant("samples.png: not drawn"):
            draw(method.sample(_ROWS * _COLUMNS), folder / "samples.png")


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
