"""Grids of images: reconstructions, samples and views."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sslx.core.capabilities import Decodes, Reconstructs, Samples, can
from sslx.core.data import Split, pixels
from sslx.core.errors import ConfigError
from sslx.core.interfaces import Dataset, Evaluator
from sslx.core.options import make
from sslx.core.randomness import Use, permutation
from sslx.core.training.evaluation import evaluate
from sslx.core.views import Views
from sslx.outputs.plots.computed import CLASSES, EACH
from sslx.outputs.plots.methods import Subject, drawn, is_points
from sslx.outputs.plots.plot import SMALL, Plot, listed, styled

Of = Literal["reconstructions", "samples", "conditional", "views"]
_LABEL = 26  # letters in a line of the label of a row
_SIDE, _GAP = 64, 4  # pixels of an image, about, and between images
_INCHES = 0.62  # side of an image


class _Row(NamedTuple):
    """A row of a grid of images."""

    name: str
    images: Sequence[Tensor]  # (C, H, W) in [0, 1] each
    shown: Sequence[str]  # what each is


def images(subjects: Sequence[Subject], of: Of, count: int | None = None) -> Plot:
    """A grid of images, with a row for each method and the same columns in all rows.

    Args:
        of: `reconstructions` of test images, below the images themselves; `samples` that the methods draw;
            `conditional` images, with a column for each class, which are decoded from a Gaussian fitted to the training
            latents of the class; `views` of training images as they were in the first epoch, with a row for each image.
        count: the number of columns, or of images whose views are shown; by default 8, or 10 for classes.

    Raises:
        ConfigError: no method can make such images, or their test images differ.
    """
    if points := [each.name for each in subjects if is_points(each.test)]:
        raise ConfigError(f"{points[0]}: is trained on points, which `planes` shows, not on images")
    makers: dict[str, Callable[..., tuple[list[_Row], list[str]]]] = {
        "reconstructions": _reconstructions, "samples": _samples, "conditional": _conditional, "views": _views,
    }  # fmt: skip
    rows, heads = makers[of](subjects, count or (CLASSES if of == "conditional" else 8))
    names = list(dict.fromkeys(row.name for row in rows if row.name))
    data: dict[str, list[Any]] = {
        "row": [i for i, row in enumerate(rows) for _ in row.images],
        "column": [j for row in rows for j, _ in enumerate(row.images)],
        "method": [row.name for row in rows for _ in row.images],
        "shown": [text for row in rows for text in row.shown],
    }
    with styled():
        figure = _grid(rows, heads)
    what = {"conditional": "samples of each class", "views": "views of training images"}.get(of, of)
    return Plot(figure, data, f"A grid of images, {what}, in rows: {listed(names)}.")


def _grid(rows: Sequence[_Row], heads: Sequence[str]) -> Any:
    """All images in one, with the names of the rows on its left. Images of different sizes are shown as large."""
    from matplotlib.figure import Figure
    from matplotlib.textpath import TextPath

    H, W = (max(image.shape[side] for row in rows for image in row.images) for side in (1, 2))
    scale = max(1, _SIDE // max(H, W))
    h, w = H * scale, W * scale
    across = max(len(row.images) for row in rows)
    canvas = torch.zeros(4, len(rows) * (h + _GAP) - _GAP, across * (w + _GAP) - _GAP)  # with transparent gaps
    for i, row in enumerate(rows):
        for j, image in enumerate(row.images):
            image = image[: 3 if len(image) >= 3 else 1].float().cpu().clamp(0, 1).expand(3, -1, -1)
            top, left = i * (h + _GAP), j * (w + _GAP)
            canvas[:3, top : top + h, left : left + w] = interpolate(image[None], (h, w), mode="nearest")[0]
            canvas[3, top : top + h, left : left + w] = 1
    labels = [textwrap.fill(row.name, _LABEL) for row in rows]
    labels = [label if i == 0 or rows[i - 1].name != rows[i].name else "" for i, label in enumerate(labels)]
    lines = [line for label in labels for line in label.split("\n") if line]
    side = max(TextPath((0, 0), line, size=SMALL).get_extents().width for line in lines) / 72 + 0.15
    above, edge = 0.25 if heads else 0.03, 0.03
    inner = across * _INCHES, len(rows) * _INCHES * h / w
    figure = Figure(figsize=(width := side + inner[0] + edge, height := above + inner[1] + edge))
    panel = figure.add_axes((side / width, edge / height, inner[0] / width, inner[1] / height))
    panel.imshow(canvas.permute(1, 2, 0).numpy(), interpolation="none")
    panel.set_yticks([i * (h + _GAP) + h / 2 - 0.5 for i in range(len(rows))], labels)
    panel.set_xticks([j * (w + _GAP) + w / 2 - 0.5 for j in range(len(heads))], heads)
    panel.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    panel.spines[:].set_visible(False)
    panel.grid(False)
    return figure


def _reconstructions(subjects: Sequence[Subject], count: int) -> tuple[list[_Row], list[str]]:
    first = subjects[0]
    index = permutation(len(first.test), Use.EVALUATION, first.seed)[:count]
    x = pixels(first.test.images[index])
    for each in subjects:
        if len(each.test) != len(first.test) or not torch.equal(pixels(each.test.images[index]), x):
            raise ConfigError(f"{each.name}: has other test images than {first.name}, expected runs on the same ones")
    shown = [f"test image {i}" for i in index.tolist()]

    def compute(subject: Subject) -> Tensor | None:
        method = subject.method
        return method.reconstruct(x.to(subject.device)) if can(method, Reconstructs) else None

    found = drawn(subjects, compute, "it reconstructs no images")
    rows = [_Row(subject.name, list(made), [f"{each}, reconstructed" for each in shown]) for subject, made in found]
    return [_Row("test images", list(x), shown), *rows], []


def _repeats(subjects: Sequence[Subject]) -> int:
    """How many rows a method has, so that few methods fill a plot as well."""
    return max(1, 4 // len(subjects))


def _samples(subjects: Sequence[Subject], count: int) -> tuple[list[_Row], list[str]]:
    def compute(subject: Subject) -> Tensor | None:
        method = subject.method
        return method.sample(count * _repeats(subjects)) if can(method, Samples) else None

    found = drawn(subjects, compute, "it draws no images")
    rows = [_Row(s.name, list(part), ["sample"] * len(part)) for s, made in found for part in made.split(count)]
    return rows, []


def _conditional(subjects: Sequence[Subject], count: int) -> tuple[list[_Row], list[str]]:
    """Images as the evaluator `samples` draws them for each class."""

    def compute(subject: Subject) -> tuple[list[Any], Tensor] | None:
        if not can(subject.method, Decodes) or subject.train.labels is None or subject.views is None:
            return None
        pictures: dict[str, Tensor] = {}
        evaluator = make(Evaluator, {"use": "samples", "conditional": True, "images": 2}, "evaluators", owner="sslx")
        few = subject.test.take(torch.arange(min(len(subject.test), 2 * subject.test.arity)))
        report = evaluate(
            {"samples": evaluator}, subject.method, (subject.train, few), subject.views, subject.device, subject.seed,
            _no_other_data, draw=pictures.__setitem__,
        )  # fmt: skip
        if not pictures:
            raise ConfigError(f"{subject.name}: {next(iter(report['samples'].values()))}")
        (made,) = pictures.values()
        classes = subject.train.labels.unique()[: len(made)].tolist()
        return classes, made.unflatten(0, (-1, EACH))

    found = drawn(subjects, compute, "it cannot decode latents, or its training images have no labels")
    heads = [str(each) for each in found[0][1][0][:count]]
    rows = []
    for subject, (classes, made) in found:
        for i in range(min(_repeats(subjects), made.shape[1])):
            shown = [f"sample of class {each}" for each in classes[:count]]
            rows.append(_Row(subject.name, list(made[:count, i]), shown))
    return rows, heads


def _no_other_data(dataset: Dataset) -> tuple[Split, Split]:
    raise AssertionError("samples of classes need no other dataset")


def _views(subjects: Sequence[Subject], count: int) -> tuple[list[_Row], list[str]]:
    def compute(subject: Subject) -> tuple[list[int], Views] | None:
        train, seed = subject.train, subject.seed
        if subject.views is None:
            return None
        index = train.shuffled(Use.ORDER, seed, 0)[: max(2, count // len(subjects))]
        source = train.images if train.fresh is None else train.fresh(seed, 0)
        sizes = None if train.sizes is None else train.sizes[index]
        return index.tolist(), subject.views(source[index], index, seed=seed, epoch=0, sizes=sizes)

    rows, heads = list[_Row](), list[str]()
    for subject, (index, seen) in drawn(subjects, compute, "it has no view policy"):
        columns = [seen.original, *seen.x.unbind(dim=1), *(() if seen.local is None else seen.local.unbind(dim=1))]
        own = ["image", *(f"view {j}" for j in range(1, seen.count + 1))]
        own += [f"local {j}" for j in range(1, len(columns) - len(own) + 1)]
        heads = max(heads, own, key=len)
        for n, i in enumerate(index):
            shown = [f"{head} of training image {i}" for head in own]
            rows.append(_Row(subject.name, [column[n] for column in columns], shown))
    return rows, heads
