"""How plots look, and how they are written.

matplotlib is imported where it is used, because it is slow. No function needs its state: each figure is made and
written inside `styled`, and whatever the user has set applies again afterwards.
"""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from sslx.core.errors import ConfigError, nearest
from sslx.core.files import replace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
INK = "#010203"  # of text and axes. No other colour is this one, so `svg` can put the colour of the page in its place
#: The palette of Okabe and Ito (2008), which people with any colour vision can tell apart, without its yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = "osD^vPX<>"  # their number and that of the colours have no common divisor, so 63 series look different
SMALL = 8.0  # points, of labels of ticks and of legends
LETTER = 0.6 * SMALL / 72  # inches, the mean width of a letter of this size
_DPI = 200
_STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), SMALL),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "font.size": 9,
    "axes.titlesize": 9.5,
    "figure.titlesize": 10,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "errorbar.capsize": 2.5,
    "text.parse_math": False,  # names of options and files may have a $
    "svg.fonttype": "none",
    "svg.hashsalt": "sslx",
    "pdf.fonttype": 42,
}
_JOINS = "stroke-linejoin: round; stroke-linecap: butt"  # of the lines of an SVG
_FOR_ALL = re.compile(rf"\s*<defs>\s*<style[^>]*>\*{{{_JOINS}}}</style>\s*</defs>")
#: Metadata that would differ between two days or two versions of matplotlib.
_NAMELESS = {
    "png": {"Software": None},
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
}


@attrs.frozen(eq=False)
class Plot:
    """A figure, the numbers that it shows, and a sentence that says the same. Equal data gives equal files.

    Attributes:
        data: the numbers as columns of a table, by name and of equal length.
        alt: the text alternative for readers who do not see the figure.
    """

    figure: Figure
    data: Mapping[str, Sequence[Any]]
    alt: str

    def save(self, *paths: Path) -> None:
        """Write the figure to each path as its ending says, and the numbers beside the first one as .csv.

        Raises ConfigError for an ending other than .png, .svg and .pdf.
        """
        files: dict[Path, str | bytes] = {path: self.content(ending_of(path)) for path in paths}
        files[paths[0].with_suffix(".csv")] = self.csv()
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, content)

    def content(self, ending: str, transparent: bool = False) -> bytes:
        """The bytes of a file with one of `ENDINGS`."""
        kind, file = ending.removeprefix("."), io.BytesIO()
        with styled():
            if (
                layout := self.figure.get_layout_engine()
            ) is not None:  # once for all files, as it takes most of the time
                layout.execute(self.figure)
                self.figure.set_layout_engine("none")
            self.figure.savefig(file, format=kind, dpi=_DPI, metadata=_NAMELESS[kind], transparent=transparent)
        return file.getvalue()

    def csv(self) -> str:
        """The numbers, with a header. A number that is not there is an empty field."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.data)
        for row in zip(*self.data.values(), strict=True):
            writer.writerow("" if isinstance(value, float) and math.isnan(value) else value for value in row)
        return file.getvalue()

    def svg(self) -> str:
        """An <svg> element for a page. Its text and its axes have the colour of the text around it."""
        text = self.content(".svg", transparent=True).decode()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        text = _FOR_ALL.sub("", text, count=1)  # which would apply to the whole page
        text = re.sub(r'<g id="[^"]*"', "<g", text)  # another plot of the page has the same names
        head, rest = text.split(">", 1)
        return f'{head} role="img" style="{_JOINS}">\n <title>{escape(self.alt)}</title>{rest}'


def ending_of(path: Path) -> str:
    """The ending of a path. Raises ConfigError unless it is one of `ENDINGS`."""
    if path.suffix.lower() not in ENDINGS:
        close = nearest(path.suffix.lower(), ENDINGS)
        raise ConfigError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}{close if '?' in close else ''}")
    return path.suffix.lower()


@contextmanager
def styled() -> Iterator[None]:
    """The look of all plots, in the place of what the user has set for matplotlib."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def colour(i: int) -> str:
    """The colour of the i-th series."""
    return COLOURS[i % len(COLOURS)]


def marker(i: int) -> str:
    """The marker of the i-th series."""
    return MARKERS[i % len(MARKERS)]


def handle(i: int, **look: Any) -> Any:
    """The line and the marker of the i-th series, for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **{"color": colour(i), "marker": marker(i), **look})


class Key(NamedTuple):
    """A legend below the panels, whose size is known before there is a figure."""

    handles: Sequence[Any]
    labels: Sequence[str]
    columns: int
    height: float  # in inches

    @classmethod
    def of(cls, handles: Mapping[str, Any], width: float) -> Key:
        """A legend of handles by label, for a figure of this width in inches. Long labels are broken."""
        longest = max(20, int((width - 0.7) / LETTER))
        labels = [textwrap.fill(label, longest) for label in handles]
        widest = max((len(line) for label in labels for line in label.split("\n")), default=0) * LETTER + 0.6
        columns = max(1, min(len(labels), int(width / widest)))
        lines = sum(label.count("\n") + 1 for label in labels)
        return cls(list(handles.values()), labels, columns, 0.19 * math.ceil(lines / columns) + 0.1 if labels else 0)


def panels(
    count: int, handles: Mapping[str, Any] = {}, size: tuple[float, float] = (0, 0), columns: int = 3
) -> tuple[Figure, list[Axes]]:
    """A figure with this many panels, and a legend below them. Must be called inside `styled`.

    Args:
        handles: the lines of the legend by label.
        size: width and height of a panel in inches; by default one panel alone is larger than several.
        columns: the largest number of panels side by side.
    """
    from matplotlib.figure import Figure

    across = 2 if count == 4 and columns == 3 else min(count, columns)
    down = math.ceil(count / across)
    width, height = size if size[0] else ((5.2, 3.3) if count == 1 else (3.1, 2.5))
    key = Key.of(handles, across * width)
    figure = Figure(figsize=(across * width, down * height + key.height), layout="constrained")
    axes = [figure.add_subplot(down, across, i + 1) for i in range(count)]
    if key.labels:
        figure.legend(key.handles, key.labels, loc="outside lower center", ncols=key.columns, columnspacing=1.5)
    return figure, axes


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in a sentence: `a`, `a and b`, `a, b and c`, or the first ones and the number of the others."""
    names = [*names] if len(names) <= most else [*names[:most], f"{len(names) - most} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def decimals(values: Sequence[float]) -> int:
    """How many digits after the point show three digits of the largest finite value."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 0


def written(value: float, digits: int) -> str:
    """A number with so many digits after the point, or with three digits if that is too long."""
    return f"{value:.{digits}f}" if digits <= 5 and abs(value) < 1e6 else f"{value:.3g}"
