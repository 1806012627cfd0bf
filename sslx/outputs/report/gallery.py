"""What a report shows of a trained method and its test images, computed once and kept in the folder of the run."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import normalize, pad

from sslx.core.console import tolerant
from sslx.core.data import Split, pixels, resized
from sslx.core.errors import CheckpointError, ConfigError
from sslx.core.files import replace
from sslx.core.interfaces import Method, ViewPolicy
from sslx.core.randomness import Use, borrowed, permutation, seed_of, seed_torch
from sslx.outputs.pictures import draw, tiled, visible
from sslx.outputs.report.page import embedded

MAPS = ("pca", "tsne", "umap")
_POINTS, _KEPT = 1000, 50  # of the map: images, and their principal components that are kept
_SIDE = 32  # pixels of a thumbnail
_QUERIES, _NEIGHBOURS = 6, 8  # images whose neighbours are shown
_SEEN, _VIEWS = 4, 7  # images whose views are shown, and views of each
_COLOURS, _NAMED = 10, 20  # of classes, and most classes whose names are written on the map
_SPRITE = 1_200_000  # bytes of all thumbnails


# --- at the end of a training -----------------------------------------------------------------------------------------


@torch.no_grad()
def gather(method: Method, test: Split, device: torch.device, seed: int, folder: Path, views: ViewPolicy) -> None:
    """Write what a report needs of a method into the folder of its run. Random states are left as they are.

    `views.png`: rows of a test image and seven views of it, as the policy makes them for training. `report/`: up to
    1000 test images, by the first 50 principal components of their representations and as thumbnails, with the nearest
    neighbours of some of them and the names of their classes. What fails is one line on standard error.
    """
    if not len(test):
        return
    order = permutation(len(test), Use.EVALUATION, seed)[:_POINTS]
    is_picture = not test.images.dtype.is_floating_point
    with borrowed():
        seed_torch(seed_of(Use.EVALUATION, seed))
        if is_picture:
            with tolerant("views.png: not drawn"):
                draw(_seen(test, order[:_SEEN], views, seed), folder / "views.png", "A test image and views of it")
        with tolerant(f"{folder / 'report'}: not written"):
            z, small = list[Tensor](), list[Tensor]()
            for index in order.split(64):
                x = pixels(test.images[index])
                z.append(method.represent(x.to(device)).float().cpu())
                small.append(resized(x, [max(1, side * _SIDE // max(_SIDE, *x.shape[2:])) for side in x.shape[2:]]))
            labels = None if test.labels is None else test.labels[order]
            (folder / "report").mkdir(exist_ok=True)
            names = {"classes": json.dumps([*test.classes])} if test.classes else None
            replace(folder / "report" / "map.safetensors", save(_reduced(torch.cat(z), labels), names))
            if is_picture:
                replace(folder / "report" / "thumbnails.png", _sprite(torch.cat(small)))


def _seen(test: Split, index: Tensor, views: ViewPolicy, seed: int) -> Tensor:
    """Each image and seven views of it, (8 n, C, H, W)."""
    sizes = None if test.sizes is None else test.sizes[index]
    policy: Any = attrs.evolve(views, count=_VIEWS)  # type: ignore[misc]
    made = policy(test.images[index], index, seed=seed, epoch=0, sizes=sizes)
    shown = resized(made.flat, made.original.shape[2:]).unflatten(0, (-1, _VIEWS))
    return torch.cat([made.original[:, None], shown], dim=1).flatten(0, 1)


def _reduced(z: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """What a report keeps of representations (n, D).

    `points` (n, K): the principal components. `share` (K,): the part of the variance that each of them has.
    `neighbours` (q, 9): positions of some images, each with the nearest ones by cosine similarity. `labels` (n,), if
    there are any.
    """
    u, s, v = torch.linalg.svd(z - z.mean(dim=0), full_matrices=False)
    k = min(_KEPT, len(s))
    sign = torch.gather(v, 1, v.abs().argmax(dim=1, keepdim=True)).sign().T  # svd leaves it open
    points = (u * s * sign)[:, :k]
    share = s.square() / s.square().sum().clamp_min(1e-30)
    found = {"points": points.contiguous(), "share": share[:k].contiguous()}
    first = torch.arange(len(z))
    if labels is not None:  # one query of each class, as far as they suffice
        found["labels"] = labels.contiguous()
        first = torch.tensor([int((labels == each).nonzero()[0]) for each in labels.unique()])
    queries = first[:_QUERIES]
    near = normalize(z[queries]) @ normalize(z).T
    near[torch.arange(len(queries)), queries] = math.inf  # each is the nearest to itself
    return found | {"neighbours": near.topk(min(len(z), 1 + _NEIGHBOURS)).indices.contiguous()}


def _sprite(images: Tensor) -> bytes:
    """Thumbnails (n, C, h, w) side by side, from left to right and downwards, as a PNG."""
    images = visible(images)
    tiled(images, _across(len(images))).save(file := io.BytesIO(), format="png")
    return file.getvalue()


def _across(n: int) -> int:
    """How many thumbnails stand side by side."""
    return math.ceil(math.sqrt(n))


# --- in a report ------------------------------------------------------------------------------------------------------


class Dot(NamedTuple):
    """A point of the map, in its coordinates."""

    place: int
    x: float
    y: float
    colour: int
    label: str


@attrs.frozen(eq=False)
class Map:
    """Test images in two dimensions, with thumbnails.

    Attributes:
        names: of classes, each with the coordinates of its middle.
        sprite: address of a picture of all thumbnails; empty if there are none.
    """

    kind = "map"
    WIDTH, HEIGHT = 720, 440
    dots: Sequence[Dot]
    names: Sequence[tuple[str, float, float]]
    sprite: str
    caption: str

    def offset(self, place: int) -> str:
        """The style that shows one thumbnail of the sprite."""
        across = _across(len(self.dots))
        down = math.ceil(len(self.dots) / across)
        x, y = place % across / max(1, across - 1), place // across / max(1, down - 1)
        return f"background-size:{across}00% {down}00%;background-position:{100 * x:.4g}% {100 * y:.4g}%"


@attrs.frozen(eq=False)
class Neighbours:
    """Images of a map, each with its nearest neighbours."""

    kind = "neighbours"
    map: Map
    rows: Sequence[Sequence[int]]
    caption: str


def shown(folder: Path, how: str = "pca") -> list[Map | Neighbours]:
    """The map and the neighbours that `gather` has written, none if there are none.

    Args:
        how: one of `MAPS`.

    Raises:
        CheckpointError: a file is damaged.
        ConfigError: umap is not installed.
    """
    file, sprite = folder / "report" / "map.safetensors", folder / "report" / "thumbnails.png"
    if not file.is_file():
        return []
    try:
        data = load(file.read_bytes())
        with safe_open(file, "pt") as opened:
            named = json.loads((opened.metadata() or {}).get("classes", "[]"))
        points, near = data["points"].double(), data["neighbours"].tolist()
        n, labels = len(points), data["labels"].tolist() if "labels" in data else None
        share = [*data["share"].tolist(), 0.0]
        address = embedded(sprite.read_bytes(), _SPRITE) if sprite.is_file() else ""
        if not isinstance(named, list) or not (named == [] or 0 <= max(labels or [0]) < len(named)):
            raise ValueError("its parts do not fit together")
        if points.ndim != 2 or not n or len(labels or points) != n or not all(0 <= i < n for row in near for i in row):
            raise ValueError("its parts do not fit together")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / 'report'}: damaged: {error}") from error
    what = {
        "pca": f"the first two principal components, with {share[0]:.0%} and {share[1]:.0%} of the variance",
        "tsne": f"t-SNE of the first {points.shape[1]} principal components",
        "umap": f"UMAP of the first {points.shape[1]} principal components",
    }[how]
    xy = _fitted(_flat(points, how))
    classes = sorted(set(labels or ()))
    known = {each: str(named[each]) if named else f"class {each}" for each in classes}
    names = [f"image {i + 1}" if labels is None else known[labels[i]] for i in range(n)]
    colours = [0 if labels is None else classes.index(labels[i]) % _COLOURS for i in range(n)]
    dots = [Dot(i, round(x, 1), round(y, 1), colours[i], names[i]) for i, (x, y) in enumerate(xy.tolist())]
    middles = []
    for each in classes if len(classes) <= _NAMED else []:
        x, y = xy[torch.tensor([label == each for label in labels or ()])].median(dim=0).values.tolist()
        middles.append((str(named[each]) if named else str(each), round(x, 1), round(y, 1)))
    by = " The colours are those of their classes." if classes else ""
    hover = " Point at one to see it." if address else ""
    drawn = Map(dots, middles, address, f"Representations of {n:,} test images: {what}.{by}{hover}")
    if not address:
        return [drawn]
    beside = "Test images with those of the map that are nearest by cosine similarity."
    marked = " Neighbours of another class are framed." if classes else ""
    return [drawn, Neighbours(drawn, near, beside + marked)]


def _flat(points: Tensor, how: str) -> Tensor:
    """(n, K) principal components -> (n, 2)."""
    n = len(points)
    if how == "tsne" and n > 3:
        from sklearn.manifold import TSNE

        found = TSNE(perplexity=min(30.0, (n - 1) / 3), init="pca", random_state=0).fit_transform(points.numpy())
    elif how == "umap" and n > 3:
        try:
            from umap import UMAP
        except ImportError as error:
            raise ConfigError("--map umap: needs umap-learn: pip install 'sslx[report]'") from error
        found = UMAP(n_neighbors=min(15, n - 1), random_state=0, n_jobs=1).fit_transform(points.numpy())
    else:
        return pad(points, (0, max(0, 2 - points.shape[1])))[:, :2]
    return torch.as_tensor(found).double()


def _fitted(xy: Tensor) -> Tensor:
    """Coordinates of the map, with the same scale in both directions as far as the points allow."""
    size = torch.tensor([Map.WIDTH, Map.HEIGHT]).double()
    middle, extent = (xy.amax(dim=0) + xy.amin(dim=0)) / 2, (xy.amax(dim=0) - xy.amin(dim=0)).clamp_min(1e-12)
    return size / 2 + (xy - middle) * torch.tensor([1.0, -1.0]) * ((size - 24) / extent).min()
