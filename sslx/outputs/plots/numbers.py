"""Plots of recorded values and of scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from sslx.core.console import say
from sslx.core.errors import ConfigError, nearest
from sslx.core.training.config import unlayer
from sslx.core.training.diagnosis import reserved
from sslx.core.training.run import Run
from sslx.outputs.plots.plot import INK, LETTER, Plot, colour, decimals, handle, listed, marker, panels, styled, written
from sslx.outputs.rows import mean_and_error
from sslx.outputs.tables import Reached, alike, named, reached

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EXCESS = "_excess"
_MARKS = 8  # of a curve, beside its line
_PRINTED = "printed in the paper"


@attrs.frozen
class Point:
    """A value with an error, at a place of an axis or of a grid.

    Attributes:
        series: the name of its line; of a grid, that of its matrix.
        y: its row, in a grid.
        panel: the title of its panel.
        printed: the value that a paper prints.
    """

    series: str
    x: float | str
    value: float
    error: float = math.nan
    y: float | str = 0
    panel: str = ""
    printed: float = math.nan


@attrs.frozen
class Pair:
    """Two values of one method, with their errors."""

    name: str
    x: float
    x_error: float
    y: float
    y_error: float


# --- over steps -------------------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    record: str
    series: str
    step: int
    value: float
    error: float
    runs: int
    minimum: float


def curves(runs: Sequence[Run], records: Sequence[str] = (), minima: bool = True) -> Plot:
    """Values that runs have recorded over the steps of training, with a panel for each name of a record.

    Runs that differ only in the seed are one line: their mean, with a band of the standard error. A known minimum of a
    term is dashed.

    Args:
        records: names of records in metrics.jsonl, in which * stands for anything; by default the loss, its terms
            unless one alone is the loss, and the scores during training.
        minima: whether known minima are drawn.

    Raises:
        ConfigError: no run has such a record.
    """
    logs = {name: [_log(run) for run in members] for name, members in alike(runs)}
    recorded = [each for log in logs.values() for run in log for each in run.values()]
    if not any(recorded):
        raise ConfigError(f"{runs[0].path}: there are no records in metrics.jsonl" if runs else "expected a run")
    chosen = _chosen(records, recorded) if records else loss_and_terms(recorded)
    lines = {(record, name): _line(record, name, log, minima) for record in chosen for name, log in logs.items()}
    names = [name for name in logs if any(lines[record, name] for record in chosen)]
    with styled():
        handles = {name: handle(i) for i, name in enumerate(names)} if len(names) > 1 else {}
        if any(math.isfinite(each.minimum) for line in lines.values() for each in line):
            handles["known minimum"] = handle(0, color=INK, marker="", linestyle="--", linewidth=1)
        figure, axes = panels(len(chosen), handles)
        for record, panel in zip(chosen, axes, strict=True):
            _draw_curves(panel, [lines[record, name] for name in names])
            panel.set(title=record, xlabel="step")
        if len(names) == 1:
            figure.suptitle(names[0])
    ends = [f"{record} of {name} ends at {line[-1].value:.4g}" for (record, name), line in lines.items() if line]
    what = f"{listed(chosen)} over the steps of training of {listed(names)}"
    data = _columns([each for line in lines.values() for each in line], _Step._fields)
    return Plot(figure, data, f"{what}: {listed(ends)}.")


def _log(run: Run) -> dict[int, dict[str, float]]:
    """What a run has recorded at each step, with the scores during its training."""
    found: dict[int, dict[str, float]] = {}
    for record in run.folder.metrics():
        values = {name: float(value) for name, value in record.items() if name not in ("step", "epoch")}
        found.setdefault(record["step"], {}).update(values)
    for step, scores in run.folder.scores():
        found.setdefault(step, {}).update(scores)
    return dict(sorted(found.items()))


def loss_and_terms(recorded: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of the loss and of what stands beside it, but not of a term that alone is the loss."""
    names = dict.fromkeys(name for each in recorded for name in each if name == "loss" or not reserved(name))
    differ = {name for each in recorded for name in each if each[name] != each.get("loss")}
    return [name for name in names if name == "loss" or name in differ]


def _chosen(patterns: Sequence[str], recorded: Sequence[Mapping[str, float]]) -> list[str]:
    known = list(dict.fromkeys(name for each in recorded for name in each))
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = [name for name in known if fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(f"record {pattern}: no run has such a record{nearest(pattern, known)}")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _line(record: str, series: str, log: Sequence[Mapping[int, Mapping[str, float]]], minima: bool) -> list[_Step]:
    """A record of runs that differ in the seed: for each step the mean over those that have it."""
    found: dict[int, list[tuple[float, float]]] = {}
    for run in log:
        for step, each in run.items():
            if record in each:
                found.setdefault(step, []).append((each[record], _minimum(record, each) if minima else math.nan))
    line = []
    for step, pairs in sorted(found.items()):
        mean, error, n = mean_and_error([value for value, _ in pairs])
        line.append(_Step(record, series, step, mean, error, n, fmean(minimum for _, minimum in pairs)))
    return line


def _minimum(record: str, values: Mapping[str, float]) -> float:
    """The known minimum of a recorded value; not a number if there is none."""
    if record == "excess" or record.endswith(_EXCESS):
        return 0.0
    if record == "loss":  # that of a term that alone is the loss
        record = next((name for name in values if name + _EXCESS in values and values[name] == values["loss"]), record)
    return values[record] - values.get(record + _EXCESS, math.nan)


def _draw_curves(panel: Axes, lines: Sequence[Sequence[_Step]]) -> None:
    lowest = [each.minimum for line in lines for each in line if math.isfinite(each.minimum)]
    common = bool(lowest) and max(lowest) - min(lowest) <= 1e-5 * max(1.0, *map(abs, lowest))
    for i, line in enumerate(lines):
        x, y = [each.step for each in line], [each.value for each in line]
        apart = math.ceil(len(x) / _MARKS)
        marks = slice(apart * i // len(lines), None, apart)  # those of different lines are not above each other
        look: dict[str, Any] = {"marker": marker(i), "markevery": marks} if len(lines) > 1 or len(x) == 1 else {}
        panel.plot(x, y, color=colour(i), markersize=3.5, linewidth=1.2, **look)
        error = [0.0 if math.isnan(each.error) else each.error for each in line]
        if any(error):
            low, high = ([a + sign * b for a, b in zip(y, error, strict=True)] for sign in (-1, 1))
            panel.fill_between(x, low, high, color=colour(i), alpha=0.15, linewidth=0)
        if not common and any(math.isfinite(each.minimum) for each in line):
            panel.plot(x, [each.minimum for each in line], color=colour(i), linestyle="--", linewidth=1)
    if common:
        panel.axhline(fmean(lowest), color=INK, linestyle="--", linewidth=1)
    panel.margins(x=0.02)
    panel.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    panel.locator_params(nbins=5)


# --- over options -----------------------------------------------------------------------------------------------------


def points(runs: Sequence[Run], x: str, scores: Sequence[str], y: str = "") -> list[Point]:
    """Scores of trained runs at the values of one or two options; the mean over runs that differ only in the seed.

    Methods, and their other options as far as they differ, are series. Several scores or datasets are panels. Runs
    whose method does not have the option are left out, which is said.

    Args:
        x: an option by its dotted key, as in `--set`, or `method` or `dataset`.
        scores: columns, as `tables` takes them.

    Raises:
        ConfigError: no run has such an option or score.
    """
    columns, found = reached(runs, scores)
    places = [{**unlayer(each.runs[0].settings), "dataset": each.dataset} for each in found]
    keys = dict.fromkeys(key for place in places for key in place if key.split(".")[0] not in ("seed", "evaluators"))
    differing = [key for key in keys if len({str(place.get(key)) for place in places}) > 1]
    for flag, key in (("x", x), ("y", y)):
        if key and key not in keys:
            raise ConfigError(f"{flag} {key}: no run has such an option{nearest(key, differing or keys, keys)}")

    names = _names(found, (x, y))
    by_dataset = "dataset" not in (x, y) and len({each.dataset for each in found}) > 1
    made = []
    for each, place, name in zip(found, places, names, strict=True):
        if missing := [key for key in (x, y) if key and key not in place]:
            say(f"{each.runs[0].path}: left out, as it has no option {missing[0]}")
            continue
        for column in (column for column in columns if column in each.cells):
            panel = [column] * (len(columns) > 1) + [f"on {each.dataset}"] * by_dataset
            cell, row = each.cells[column], _place(place[y]) if y else 0
            made.append(Point(name, _place(place[x]), cell.mean, cell.error, row, " ".join(panel)))
    return made


def pairs(runs: Sequence[Run], x: str, y: str) -> list[Pair]:
    """Two scores of trained runs; the mean over runs that differ only in the seed. Raises ConfigError as `points`."""
    columns, found = reached(runs, [x, y])
    first, second = columns[0], columns[-1]
    on = [f" on {each.dataset}" * (len({each.dataset for each in found}) > 1) for each in found]
    return [
        Pair(name + where, a.mean, a.error, b.mean, b.error)
        for name, where, each in zip(_names(found), on, found, strict=True)
        if (a := each.cells.get(first)) and (b := each.cells.get(second))
    ]


def _names(found: Sequence[Reached], places: Sequence[str] = ()) -> list[str]:
    """The methods, with the options in which namesakes differ, without those of the dataset and of these places."""

    def ignored(key: str) -> bool:
        return key in places or key.split(".")[0] in ("dataset", "eval_dataset", "seed", "evaluators")

    names = named([each.runs[0].settings for each in found], "method", ignored)
    return [name.partition(" ")[2].strip("()") for name in names] if "method" in places else names


def _place(value: Any) -> float | str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def axis(points: Sequence[Point], xlabel: str, ylabel: str, logx: bool = False) -> Plot:
    """Lines of values with error bars, one for each series, and a panel for each panel of the points.

    Printed values have hollow markers and dotted lines. Places are numbers, or categories in the order in which they
    come, which no line connects.

    Args:
        logx: whether the axis of x is logarithmic; values that are not positive are then linear near zero.
    """
    _some(points)
    names, titles = _distinct(each.series for each in points), _distinct(each.panel for each in points)
    numeric = all(not isinstance(each.x, str) for each in points)
    ticks = sorted(_distinct(each.x for each in points)) if numeric else _distinct(_text(each.x) for each in points)

    with styled():
        handles = {name: handle(i, linestyle="-" if numeric else "") for i, name in enumerate(names) if name}
        if any(math.isfinite(each.printed) for each in points):
            handles[_PRINTED] = handle(0, color=INK, linestyle=":" if numeric else "", markerfacecolor="none")
        figure, axes = panels(len(titles), handles)
        for title, panel in zip(titles, axes, strict=True):
            in_panel = [each for each in points if each.panel == title]
            place = _places(in_panel, ticks, numeric)
            for i, name in enumerate(names):
                own = [each for each in in_panel if each.series == name]
                own = sorted(own, key=lambda each: each.x) if numeric else own
                look: dict[str, Any] = {"color": colour(i), "marker": marker(i)}
                if found := [each for each in own if math.isfinite(each.value)]:
                    x, y = [place(each) for each in found], [each.value for each in found]
                    panel.errorbar(
                        x, y, [each.error for each in found], linestyle="-" if numeric else "", elinewidth=1, **look
                    )
                if found := [each for each in own if math.isfinite(each.printed)]:
                    x, y, ls = [place(each) for each in found], [each.printed for each in found], ":" if numeric else ""
                    panel.plot(x, y, linestyle=ls, markerfacecolor="none", markersize=6.5, **look)
            panel.set(title=title, xlabel=xlabel, ylabel=ylabel)
            if numeric:
                _numbers(panel, ticks, logx)
            else:
                _categories(panel, ticks, (4.5 if len(titles) == 1 else 2.4) / len(ticks))
    data = _columns(points, ("panel", "series", "x", "value", "error", "printed"))
    return Plot(figure, data, f"{ylabel} over {xlabel}: {_said(points)}.")


def _places(points: Sequence[Point], ticks: Sequence[Any], numeric: bool) -> Callable[[Point], Any]:
    """A function that says where on the axis a point is. The series of a category are side by side."""
    beside: dict[str, list[str]] = {}
    for each in points:
        if each.series not in (names := beside.setdefault(_text(each.x), [])):
            names.append(each.series)
    widest = max(map(len, beside.values()), default=1)

    def place(point: Point) -> Any:
        names = beside[_text(point.x)]
        shift = names.index(point.series) - (len(names) - 1) / 2
        return point.x if numeric else ticks.index(_text(point.x)) + 0.6 * shift / widest

    return place


def _some(points: Sequence[Any]) -> None:
    if not points:
        raise ConfigError("there is nothing to plot: no run has such values")


def _distinct(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))


def _text(place: float | str) -> str:
    return place if isinstance(place, str) else f"{place:.12g}"


def _columns(rows: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in names}


def _said(points: Sequence[Point], with_y: bool = False) -> str:
    def place(each: Point) -> str:
        words = [each.panel, each.series, f"at {_text(each.x)}", f"and {_text(each.y)}" if with_y else ""]
        return " ".join(word for word in words if word)

    return listed([f"{place(each)} {each.value:.4g}" for each in points if math.isfinite(each.value)])


def _numbers(panel: Axes, ticks: Sequence[float], log: bool) -> None:
    """An axis of numbers, with a tick at each value if they are few and not too close."""
    if log and ticks[0] > 0:
        panel.set_xscale("log")
    elif log:
        panel.set_xscale("symlog", linthresh=min((abs(each) for each in ticks if each), default=1.0))
    places = [float(each) for each in panel.transData.transform([(each, 0) for each in ticks])[:, 0]]
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    wide = max(len(_text(each)) for each in ticks) * 6 + 6  # pixels
    if len(ticks) <= 12 and min(gaps, default=wide) >= wide:
        panel.set_xticks(ticks, [_text(each) for each in ticks])
        panel.minorticks_off()
    elif log:
        panel.xaxis.set_major_formatter(lambda value, _: _text(value))
        panel.xaxis.set_minor_formatter(lambda value, _: "")


def _categories(panel: Axes, names: Sequence[str], width: float) -> None:
    """Categories below an axis, which are turned if they would overlap.

    Args:
        width: inches between two of them.
    """
    turned = max(map(len, names)) * LETTER + 0.1 > width
    look: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    panel.set_xticks(range(len(names)), names, **look)
    panel.set_xlim(-0.5, len(names) - 0.5)


def heat(points: Sequence[Point], xlabel: str, ylabel: str, label: str) -> Plot:
    """Matrices of values, one for each panel and series, with each value, its error and in brackets the printed value.

    Args:
        label: what the values are.
    """
    _some(points)
    from matplotlib.colors import Normalize

    keys = _distinct((each.panel, each.series) for each in points)
    across, down = _order([each.x for each in points]), _order([each.y for each in points])
    shown = [each.value if math.isfinite(each.value) else each.printed for each in points]
    digits = decimals(shown)
    texts = {(each.panel, each.series, _text(each.x), _text(each.y)): _cell(each, digits) for each in points}
    widest = max(len(line) for text in texts.values() for line in text.split("\n"))
    cell = max(0.45, LETTER * widest + 0.15), 0.42 if any("\n" in text for text in texts.values()) else 0.32
    side = LETTER * max(map(len, down)) + 0.5
    width, height = side + cell[0] * len(across), 0.9 + cell[1] * len(down)
    finite = [value for value in shown if math.isfinite(value)]
    norm = Normalize(min(finite, default=0), max(finite, default=1))
    with styled():
        columns = max(1, min(3, int(10 / width)))
        figure, axes = panels(len(keys), size=(max(width, 2.2), max(height, 1.3)), columns=columns)
        for (title, name), panel in zip(keys, axes, strict=True):
            own = {k[2:]: v for k, v in texts.items() if k[:2] == (title, name)}
            values = {
                (_text(each.x), _text(each.y)): value
                for each, value in zip(points, shown, strict=True)
                if (each.panel, each.series) == (title, name)
            }
            matrix = [[values.get((a, b), math.nan) for a in across] for b in down]
            image = panel.imshow(matrix, cmap="viridis", norm=norm, aspect="auto", interpolation="nearest")
            for (a, b), text in own.items():
                shade = "black" if norm(values[a, b]) > 0.6 else "white"
                shade = INK if math.isnan(values[a, b]) else shade
                panel.text(across.index(a), down.index(b), text, ha="center", va="center", fontsize=7.5, color=shade)
            _categories(panel, across, cell[0])
            panel.set_yticks(range(len(down)), down)
            panel.set(title=" ".join(word for word in (title, name) if word), xlabel=xlabel, ylabel=ylabel)
            panel.grid(False)
        figure.colorbar(image, ax=axes, label=label, aspect=25)
    data = _columns(points, ("panel", "series", "x", "y", "value", "error", "printed"))
    return Plot(figure, data, f"{label} over {xlabel} and {ylabel}: {_said(points, with_y=True)}.")


def _order(places: Sequence[float | str]) -> list[str]:
    """Places as text: numbers by size, categories as they come."""
    distinct = _distinct(places)
    return [_text(each) for each in (distinct if any(isinstance(p, str) for p in distinct) else sorted(distinct))]


def _cell(point: Point, digits: int) -> str:
    value = written(point.value, digits) if math.isfinite(point.value) else "–"
    printed = f" ({written(point.printed, digits)})" if math.isfinite(point.printed) else ""
    error = f"\n±{written(point.error, digits)}" if math.isfinite(point.error) else ""
    return f"{value}{printed}{error}"


def scatter(pairs: Sequence[Pair], xlabel: str, ylabel: str) -> Plot:
    """A point with error bars for each method."""
    _some(pairs)
    with styled():
        handles = {each.name: handle(i, linestyle="", markersize=6) for i, each in enumerate(pairs)}
        figure, (panel,) = panels(1, handles, (5.0, 3.6))
        for i, each in enumerate(pairs):
            look: dict[str, Any] = {"color": colour(i), "marker": marker(i), "markersize": 6, "elinewidth": 1}
            panel.errorbar([each.x], [each.y], [each.y_error], [each.x_error], linestyle="", **look)
        panel.set(xlabel=xlabel, ylabel=ylabel)
        panel.margins(0.08)
    data = _columns(pairs, ("name", "x", "x_error", "y", "y_error"))
    said = listed([f"{each.name} at {each.x:.4g} and {each.y:.4g}" for each in pairs])
    return Plot(figure, data, f"{ylabel} over {xlabel}: {said}.")
