"""Plots of what trained methods make of images and of points."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor
from torch.nn.functional import pad

from sslx.core.console import say
from sslx.core.data import Split, pixels
from sslx.core.errors import ConfigError, DataError
from sslx.core.interfaces import Method, ViewPolicy
from sslx.core.randomness import Use, borrowed, permutation, seed_of, seed_torch
from sslx.outputs.plots.computed import Plane, by_class, divergences, lower_limit, plane, similarities
from sslx.outputs.plots.plot import COLOURS, Plot, colour, handle, listed, panels, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CPU = torch.device("cpu")
_CLUSTERS, _DENSITY = "likeliest cluster", "log p(x) + constant"
_IMAGES = 1000  # of the posterior
_PALE = 0.5  # how much white is in the colours of a map
_TITLE = 34  # letters in a line of the title of a panel


@attrs.frozen(eq=False)
class Subject:
    """A trained method under a name, with the images that it is shown.

    Attributes:
        method: on the device, in evaluation mode.
        train: the images that it was trained on.
        views: the view policy of its training.
        seed: that of its run, which decides which images are shown, and everything that is drawn.
    """

    name: str
    method: Method
    train: Split
    test: Split
    views: ViewPolicy | None = None
    seed: int = 0
    device: torch.device = _CPU


def drawn(subjects: Sequence[Subject], compute: Callable[[Subject], Any], lacking: str) -> list[tuple[Subject, Any]]:
    """What is computed of each subject, with its seed. Those of which it is None are left out, and this is said.

    Raises ConfigError if it is None of all.
    """
    found = []
    for subject in subjects:
        with borrowed(), torch.no_grad():
            seed_torch(seed_of(Use.EVALUATION, subject.seed))
            result = compute(subject)
        if result is None:
            say(f"{subject.name}: left out: {lacking}")
        else:
            found.append((subject, result))
    if not found:
        raise ConfigError(f"there is nothing to plot, of {listed([each.name for each in subjects])}: {lacking}")
    return found


def is_points(test: Split) -> bool:
    return test.images.dtype.is_floating_point


# --- points -----------------------------------------------------------------------------------------------------------


def planes(subjects: Sequence[Subject]) -> Plot:
    """The plane as methods for points see it: the regions of their clusters and their density, with drawn points."""
    if of_images := [each.name for each in subjects if tuple(each.test.images.shape[1:]) != (2, 1, 1)]:
        raise ConfigError(f"{of_images[0]}: planes are plots of points in the plane, such as moons, not of images")

    def compute(subject: Subject) -> Any:
        found = plane(subject.method, subject.test, subject.device)
        return None if found.cluster is None and found.log_density is None else found

    found = drawn(subjects, compute, "it has neither clusters nor a density")
    kinds = [_CLUSTERS] * any(each.cluster is not None for _, each in found)
    kinds += [_DENSITY] * any(each.log_density is not None for _, each in found)
    dot: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgewidth": 0}
    looks = {"test points": dot | {"color": "black", "markersize": 1.8}}
    if any(len(each.samples) for _, each in found):
        looks["samples"] = dot | {"color": COLOURS[1], "markersize": 2.8}
    data: dict[str, list[Any]] = {name: [] for name in ("method", "what", "x", "y", "cluster", "log_density")}
    with styled():
        handles = {name: handle(0, **look | {"markersize": 4}) for name, look in looks.items()}
        across = len(kinds) * (1 if len(found) <= 3 else 2)
        figure, axes = panels(len(kinds) * len(found), handles, (3.3, 2.7), across)
        for i, (subject, seen) in enumerate(found):
            _add_plane(data, subject.name, seen)
            for kind, panel in zip(kinds, axes[i * len(kinds) :], strict=False):
                heights = seen.cluster if kind == _CLUSTERS else seen.log_density
                if heights is None:
                    panel.axis("off")
                    continue
                _draw_heights(panel, seen, heights, kind == _CLUSTERS)
                for name, where in (("test points", seen.points), ("samples", seen.samples)):
                    if len(where):
                        panel.plot(*where.T.tolist(), **looks[name])
                panel.set_title(f"{textwrap.fill(subject.name, _TITLE)}\n{kind}")
                panel.set(xlim=panel.images[0].get_extent()[:2], ylim=panel.images[0].get_extent()[2:])
    what = listed(kinds)
    return Plot(figure, data, f"Maps of the plane with {what} of {listed([each.name for each, _ in found])}.")


def _draw_heights(panel: Axes, seen: Plane, heights: Tensor, clusters: bool) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, to_rgba_array

    if clusters:
        numbers = heights.unique()
        heights = torch.searchsorted(numbers, heights.contiguous())
        colours = to_rgba_array([colour(int(k) % (len(COLOURS) - 1)) for k in numbers])
        look: dict[str, Any] = {"vmin": -0.5, "vmax": len(numbers) - 0.5}
    else:
        colours = colormaps["viridis"](range(256))
        look = {"vmin": float(heights.nanquantile(0.02))}
    tints = ListedColormap(_PALE + (1 - _PALE) * colours)  # on which the points can be seen
    left, right, bottom, top = (float(each[end]) for each in (seen.across, seen.up) for end in (0, -1))
    mesh = panel.imshow(
        heights.numpy(), tints, origin="lower", extent=(left, right, bottom, top), aspect="auto", **look
    )
    panel.grid(False)
    bar = panel.figure.colorbar(mesh, ax=panel, aspect=25)
    if clusters:
        bar.set_ticks(list(range(len(numbers))), labels=[f"{k:g}" for k in numbers.tolist()])


def _add_plane(data: Mapping[str, list[Any]], name: str, seen: Plane) -> None:
    """Add the rows of a plane: the grid, then the points, with five digits."""
    y, x = torch.cartesian_prod(seen.up, seen.across).T
    heights = [torch.full_like(x, math.nan) if h is None else h.flatten() for h in (seen.cluster, seen.log_density)]
    points, samples = (pad(each, (0, 2), value=math.nan) for each in (seen.points, seen.samples))
    for what, part in (("map", torch.stack([x, y, *heights], dim=1)), ("test point", points), ("sample", samples)):
        data["method"].extend([name] * len(part))
        data["what"].extend([what] * len(part))
        for column, values in zip(("x", "y", "cluster", "log_density"), part.T, strict=True):
            data[column].extend(float(f"{value:.5g}") for value in values.tolist())


# --- representations --------------------------------------------------------------------------------------------------


def similarity(subjects: Sequence[Subject]) -> Plot:
    """Cosine similarities of the representations of test images, eight of each of ten classes, for each method."""

    def compute(subject: Subject) -> Any:
        if not len(subject.test):
            return None
        index = by_class(subject.test, permutation(len(subject.test), Use.EVALUATION, subject.seed))
        z = subject.method.represent(pixels(subject.test.images[index]).to(subject.device))
        labels = [""] * len(index) if subject.test.labels is None else subject.test.labels[index].tolist()
        return similarities(z), index.tolist(), labels

    found = drawn(subjects, compute, "the test set is empty")
    data: dict[str, list[Any]] = {
        name: [] for name in ("method", "image", "class", "other_image", "other_class", "similarity")
    }
    said = []
    low = lower_limit(min(float(values.min()) for _, (values, _, _) in found))
    with styled():
        figure, axes = panels(len(found), size=(2.7, 2.75) if len(found) > 1 else (4.2, 3.6))
        for (subject, (values, index, labels)), panel in zip(found, axes, strict=True):
            mesh = panel.imshow(
                values.numpy(), cmap="RdBu_r" if low < 0 else "Reds", vmin=low, vmax=1, interpolation="none"
            )
            panel.set_title(textwrap.fill(subject.name, _TITLE))
            panel.grid(False)
            panel.spines[:].set_visible(False)
            ticks = _middles(labels)
            for set_ticks in (panel.set_xticks, panel.set_yticks):
                set_ticks([place for place, _ in ticks], [str(name) for _, name in ticks], size=7)
            panel.tick_params(length=0)
            panel.set(xlabel="class" if ticks else "image", ylabel="class" if ticks else "image")
            for i, row in enumerate(values.tolist()):
                columns = ([subject.name] * len(row), [index[i]] * len(row), [labels[i]] * len(row), index, labels, row)
                for column, added in zip(data.values(), columns, strict=True):
                    column.extend(added)
            n = len(values)
            said.append(f"{subject.name} {(float(values.sum()) - n) / max(1, n * (n - 1)):.3f}")
        figure.colorbar(mesh, ax=axes, label="cosine similarity", aspect=30, shrink=0.9 if len(found) <= 3 else 0.5)
    text = (
        f"Cosine similarities of the representations of test images; mean over pairs of different ones: {listed(said)}."
    )
    return Plot(figure, data, text)


def _middles(labels: Sequence[Any]) -> list[tuple[float, Any]]:
    """The middle of each run of equal labels."""
    places: dict[Any, list[int]] = {}
    for place, name in enumerate(labels):
        places.setdefault(name, []).append(place)
    return [((each[0] + each[-1]) / 2, name) for name, each in places.items() if name != ""]


def posterior(subjects: Sequence[Subject]) -> Plot:
    """The mean divergence of each latent dimension from N(0, 1), the largest first, for each method."""

    from matplotlib.patches import Patch

    def compute(subject: Subject) -> Any:
        order = permutation(len(subject.test), Use.EVALUATION, subject.seed)[:_IMAGES]
        result = divergences(subject.method, pixels(subject.test.images[order]).to(subject.device))
        if result is not None and not result[0].isfinite().all():
            raise DataError(f"{subject.name}: a posterior is not finite. The method has probably diverged")
        return result

    found = drawn(subjects, compute, "its encoder gives no normal distribution")
    data: dict[str, list[Any]] = {name: [] for name in ("method", "rank", "dimension", "kl", "collapsed")}
    said = []
    with styled():
        colours = {"active": COLOURS[0], "collapsed (×)": COLOURS[1]}
        figure, axes = panels(len(found), {name: Patch(color=each) for name, each in colours.items()})
        highest = max(float(kl.max()) for _, (kl, _) in found) or 1.0
        for (subject, (kl, collapsed)), panel in zip(found, axes, strict=True):
            order = kl.argsort(descending=True, stable=True)
            heights, gone = kl[order].tolist(), collapsed[order].tolist()
            ranks = list(range(1, len(heights) + 1))
            panel.bar(ranks, heights, color=[COLOURS[int(each)] for each in gone])
            if places := [rank for rank in ranks if gone[rank - 1]]:  # whose bars may be too low to be seen
                tops = [heights[rank - 1] + 0.03 * highest for rank in places]
                panel.plot(places, tops, "x", color=COLOURS[1], markersize=3.5)
            panel.set_title(textwrap.fill(subject.name, _TITLE))
            panel.set(xlabel="dimension, by rank", ylabel="KL in nats", ylim=(0, 1.05 * highest))
            panel.set_xlim(0, len(heights) + 1)
            panel.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
            panel.grid(False, axis="x")
            columns = ([subject.name] * len(heights), ranks, order.tolist(), heights, gone)
            for column, added in zip(data.values(), columns, strict=True):
                column.extend(added)
            said.append(f"{subject.name} {sum(gone)} of {len(gone)}, {sum(heights):.3g} nats in total")
    text = f"Divergence of each latent dimension from N(0, 1); dimensions that have collapsed: {listed(said)}."
    return Plot(figure, data, text)
