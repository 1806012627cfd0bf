"""The page of a study, made from run records: tables beside the paper's numbers, figures, and what was found."""

import csv
import io
import math
import os
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from sslx.core.errors import ConfigError, SslxError, nearest
from sslx.core.files import replace
from sslx.core.study import Block, Figure as Wanted, Line, Value
from sslx.core.training.run import Run
from sslx.outputs import plots
from sslx.outputs.formats import as_table
from sslx.outputs.report import Figure, Link, Notes, Rows, Section, page
from sslx.runs.drawn import subjects
from sslx.runs.studies import Cell, Reproduction

_SURE = 2.0  # standard errors of a difference beyond which it is called clear
_FLOORS = ("pixels", "pca")


def check_figures(study: Reproduction) -> None:
    """Raise ConfigError if there is no such kind of figure, before anything is trained for it."""
    for wanted in study.design.figures:
        if wanted.kind not in _KINDS:
            raise ConfigError(f"{study.name}: figures: there is no kind {wanted.kind!r}{nearest(wanted.kind, _KINDS)}")


def write_page(study: Reproduction, folder: Path) -> list[Path]:
    """Write `index.html`, `index.md`, `table.csv` and the figures of a study. Returns the paths of the pages.

    Nothing but run records decides what is written, so that the same runs give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells = study.cells()
    figures = [part for figure in study.design.figures for part in _by_block(cells, figure)]
    names = [f"figure-{number}" for number in range(1, len(figures) + 1)] if len(figures) > 1 else ["figure"]
    drawn = [_drawn(study, figure, cells, folder / name) for figure, name in zip(figures, names, strict=False)]
    sections = [
        Section("Results", [*_tables(study, cells), _measure(study)]),
        Section("Figures", drawn),
        Section("What was found", list(_found(study, cells)) if study.budget != "smoke" else []),
        Section("What differs from the paper", list(_differences(study, cells))),
        Section("Runs", list(_runs(study, folder))),
    ]
    sections = [section for section in sections if section.blocks]
    lead = f"{study.design.paper}. {study.design.shows}".strip()
    filled = sum(bool(cell.values) or not math.isnan(cell.centre) for cell in cells)
    numbers = {"budget": study.budget, "cells filled": f"{filled} of {len(cells)}"}
    page(study.design.title, sections, folder / "index.html", lead=lead, numbers=numbers)
    replace(folder / "index.md", _markdown(study.design.title, lead, numbers, sections))
    replace(folder / "table.csv", _csv(study, cells))
    return [folder / "index.html", folder / "index.md"]


def tables_of(study: Reproduction) -> str:
    """The tables of the page, for a terminal."""
    shown = []
    for table in _tables(study, study.cells()):
        body = [[str(cell) for cell in row] for row in table.rows]
        shown.append(f"{table.caption}\n{as_table([[*table.head], *body], 'simple')}\n")
    return "\n".join([*shown, _measure(study)])


# --- tables -----------------------------------------------------------------------------------------------------------


def _tables(study: Reproduction, cells: Sequence[Cell]) -> Iterator[Rows]:
    """A table for each block; for blocks along an axis, or in a plane, one for each panel and column."""
    design, places = study.design, study.places()
    blocks = list(dict.fromkeys(block.name for block, _ in places))
    known = {block.name: block for block in design.blocks}
    rows = [row for row in design.rows if any(row == other for _, other in places)]
    found = {(cell.block.name, cell.row.name, cell.column.name): cell for cell in cells}
    floors = {which: study.floors(which) for which in _FLOORS}
    seeds = design.budgets[study.budget].seeds or design.seeds
    if any(known[name].x is not None for name in blocks):
        for panel in dict.fromkeys(known[name].panel for name in blocks):
            mine = [name for name in blocks if known[name].panel == panel]
            for column in design.columns:
                if any(known[name].y is not None for name in mine):
                    for row in rows:
                        ours = {name: _ours(found[name, row.name, column.name], seeds) for name in mine}
                        caption = ", ".join(filter(None, [panel, column.name, row.name if len(rows) > 1 else ""]))
                        yield _plane(study, caption, {(known[name].x, known[name].y): ours[name] for name in mine})
                    continue
                body = [
                    [row.name, *(_ours(found[name, row.name, column.name], seeds) for name in mine)] for row in rows
                ]
                yield Rows(": ".join(filter(None, [panel, column.name])), ["method", *mine], body)
        return
    for name in blocks:
        printed = [c for c in design.columns if any(found[name, row.name, c.name].printed for row in rows)]
        head, body = ["method"], [[row.name] for row in rows]
        for column in design.columns:
            of_column = [found[name, row.name, column.name] for row in rows]
            head += [column.name, "paper"] if column in printed else [column.name]
            for line, cell in zip(body, of_column, strict=True):
                line += (
                    [_ours(cell, seeds), _number(cell.printed, column.digits)]
                    if column in printed
                    else [_ours(cell, seeds)]
                )
        below = list[list[str]]()
        for which in _FLOORS:
            line = [which]
            for column in design.columns:
                floor = floors[which].get((name, column.name))
                line += [_number(Value(*floor), column.digits) if floor else "-", *(["-"] if column in printed else [])]
            below += [line] if any(each != "-" for each in line[1:]) else []
        yield Rows(name, head, body + below, range(len(body), len(body) + len(below)))


def _plane(study: Reproduction, caption: str, ours: Mapping[tuple[Any, Any], str]) -> Rows:
    """Numbers at places (x, y), laid out as in a figure: a line for each y."""
    options = next((each.options for each in study.design.figures if "ylabel" in each.options), {})
    xs, ys = (list(dict.fromkeys(place[axis] for place in ours)) for axis in (0, 1))
    shown = {each: f"{each:g}" if isinstance(each, float) else str(each) for each in (*xs, *ys)}
    body = [[shown[y], *(ours.get((x, y), "-") for x in xs)] for y in ys]
    corner = f"{options.get('ylabel', 'y')}, across {options.get('xlabel', 'x')}"
    return Rows(caption, [corner, *(shown[x] for x in xs)], body)


def _ours(cell: Cell, seeds: int) -> str:
    """The number of a cell, with the number of its runs if others are still to come."""
    n = len(cell.values)
    return _number(Value(cell.centre, cell.spread), cell.column.digits) + (
        f" ({n} of {seeds})" if 0 < n < seeds else ""
    )


def _number(value: Value | None, digits: int) -> str:
    if value is None or math.isnan(value.centre):
        return "-"
    return f"{value.centre:.{digits}f}" + ("" if math.isnan(value.spread) else f" ± {value.spread:.{digits}f}")


def _measure(study: Reproduction) -> str:
    budget, design = study.design.budgets[study.budget], study.design
    seeds = budget.seeds or design.seeds
    error = "standard error of the mean" if design.spread == "error" else "standard deviation"
    says = f"{design.centre.capitalize()} ± {error} over {seeds} seeds. " if seeds > 1 else "One seed. "
    return says + budget.says


def _csv(study: Reproduction, cells: Sequence[Cell]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ["budget", "block", "row", "column", "ours", "spread", "n", "paper", "paper spread", "reason"]
    writer.writerow(names)
    for cell in cells:
        printed = cell.printed or Value(math.nan)
        numbers = [cell.centre, cell.spread, len(cell.values), printed.centre, printed.spread]
        shown = ["" if math.isnan(number) else repr(number) for number in numbers]
        writer.writerow([study.budget, cell.block.name, cell.row.name, cell.column.name, *shown, cell.reason])
    for which in _FLOORS:
        for (block, column), found in study.floors(which).items():
            shown = ["" if math.isnan(number) else repr(number) for number in found]
            writer.writerow([study.budget, block, which, column, *shown, "", "", "", "needs no training"])
    return file.getvalue()


# --- text -------------------------------------------------------------------------------------------------------------


def _found(study: Reproduction, cells: Sequence[Cell]) -> Iterator[str | Notes]:
    """For each pair of rows whether the first one is better, here and in the paper."""
    found = {(cell.block.name, cell.column.name, cell.row.name): cell for cell in cells}
    seeds = study.design.budgets[study.budget].seeds or study.design.seeds
    for better, worse in study.design.better:
        words, lines, agree, both = list[str](), list[str](), 0, 0
        for (block, column, row), mine in found.items():
            other = found.get((block, column, worse))  # none with --only
            if row != better or other is None or not (mine.values and other.values):
                continue
            gain, error = mine.centre - other.centre, math.hypot(_error(mine), _error(other))
            unclear = gain == 0 if math.isnan(error) else abs(gain) <= _SURE * error
            words.append("unclear" if unclear else "above" if gain > 0 else "below")
            printed = mine.printed.centre - other.printed.centre if mine.printed and other.printed else math.nan
            if not math.isnan(printed) and printed and not unclear:
                both, agree = both + 1, agree + ((printed > 0) == (gain > 0))
            digits = mine.column.digits
            paper = "" if math.isnan(printed) else f"; paper {printed:+.{digits}f}"
            size = f"{gain:+.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.{digits}f}")
            lines.append(f"{block}, {column}: {size}{paper}")
        if words:
            above, below, equal = (words.count(word) for word in ("above", "below", "unclear"))
            said = f"{better} against {worse}: above in {above} of {len(words)} scores and below in {below}"
            said += f", by more than {_SURE:.0f} standard errors of the difference." if seeds > 1 else ", of one seed."
            if equal:
                said += f" In {equal} the difference is smaller than that." if seeds > 1 else f" {equal} are equal."
            if both:
                said += f" The paper's difference has the same sign in {agree} of {both}."
            yield said
            yield Notes(f"{better} minus {worse}", lines)


def _error(cell: Cell) -> float:
    """The standard error of the mean of a cell."""
    return statistics.stdev(cell.values) / math.sqrt(len(cell.values)) if len(cell.values) > 1 else math.nan


def _differences(study: Reproduction, cells: Sequence[Cell]) -> Iterator[str | Notes]:
    yield from study.design.deviations
    notes = {f"{each.name}: {each.note}": None for pair in study.places() for each in pair if each.note}
    yield from notes
    changed: dict[tuple[str, Any, Any], list[tuple[str, str]]] = {}
    places = [(block, row) for block, row in study.places() if not row.gain and not study.absent(block, row)]
    trained = [(block.name, row.name) for block, row in places]
    for block, row in places:
        for key, (ours, paper) in study.changes(block, row).items():
            changed.setdefault((key, repr(ours), repr(paper)), []).append((block.name, row.name))
    lines = []
    for (key, ours, paper), users in changed.items():
        where = "" if len(users) == len(trained) else f" ({_where(users, trained)})"
        mine = "as sslx recommends" if ours == "None" else ours
        lines.append(f"{key}: {mine}, paper {'not set' if paper == 'None' else paper}{where}")
    if lines:
        yield Notes(f"Options of the budget {study.budget} that differ from the paper's", lines)
    here = {block.name for block, _ in study.places()}
    left_out = [block.name for block in study.design.blocks if block.name not in here]
    if left_out:
        yield f"This budget leaves out {', '.join(left_out)}."
    yield from _without_score(study, cells)


def _without_score(study: Reproduction, cells: Sequence[Cell]) -> Iterator[Notes]:
    """The places without a score under each reason; columns are named where others of the place have one."""
    reasons: dict[str, dict[tuple[str, str], tuple[str, ...]]] = {}
    for cell in cells:
        if not cell.values and cell.reason and math.isnan(cell.centre):
            columns = reasons.setdefault(cell.reason, {})
            place = cell.block.name, cell.row.name
            columns[place] = (*columns.get(place, ()), cell.column.name)
    everywhere, lines = [(block.name, row.name) for block, row in study.places()], list[str]()
    for reason, columns in reasons.items():
        parts = []
        for names in dict.fromkeys(columns.values()):
            where = _where([place for place, own in columns.items() if own == names], everywhere)
            parts.append(where if len(names) == len(study.design.columns) else f"{', '.join(names)} of {where}")
        lines.append(f"{reason.rstrip('.')}: {'; '.join(parts)}")
    if lines:
        yield Notes("Cells without a score", lines)


def _where(users: Sequence[tuple[str, str]], places: Sequence[tuple[str, str]]) -> str:
    """Pairs of block and row in few words: blocks with the same rows together, and no rows where it is all of them."""

    def rows_of(pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
        return {block: tuple(row for other, row in pairs if other == block) for block, _ in pairs}

    whole, together = rows_of(places), dict[tuple[str, ...], list[str]]()
    for block, rows in rows_of(users).items():
        together.setdefault(() if rows == whole[block] else rows, []).append(block)
    said = ((", ".join(rows), ", ".join(blocks)) for rows, blocks in together.items())
    return "; ".join(f"{rows} of {blocks}" if rows else blocks for rows, blocks in said)


def _runs(study: Reproduction, folder: Path) -> Iterator[Rows]:
    """The finished runs, with links from the page in `folder` to their reports."""
    rows = list[list[str | Link]]()
    for task in study.tasks:
        path = study.folder / task.name
        if not (path / "results.json").exists():
            continue
        run = Run.open(path)
        training = run.training
        images, seconds = f"{training.get('images', 0):,}", f"{training['cpu_seconds']:.0f}"
        there = os.path.relpath(path / "report.html", folder)
        name = Link(task.name, quote(there)) if (path / "report.html").is_file() else task.name
        rows.append([task.block.name, task.row.name, str(task.config.seed), images, seconds, name])
    if rows:
        head = ["block", "row", "seed", "images seen", "CPU-seconds of training", "run"]
        yield Rows("Each run holds its complete config", head, rows)


# --- figures ----------------------------------------------------------------------------------------------------------


def _by_block(cells: Sequence[Cell], wanted: Wanted) -> list[Wanted]:
    """The figure, or if it shows images one for each block, as blocks may have other images."""
    some = wanted.options.get("blocks", ())
    blocks = [name for name in dict.fromkeys(cell.block.name for cell in cells) if not some or name in some]
    if wanted.kind != "images" or len(blocks) < 2:
        return [wanted]
    return [
        attrs.evolve(wanted, title=f"{wanted.title}, {name}", options={**wanted.options, "blocks": [name]})
        for name in blocks
    ]


def _drawn(study: Reproduction, wanted: Wanted, cells: Sequence[Cell], path: Path) -> str | Figure:
    """A figure, saved under this path as PNG, SVG and PDF with its numbers; a sentence if it cannot be drawn."""
    options = dict(wanted.options)
    rows, blocks = options.pop("rows", ()), options.pop("blocks", ())
    mine = [
        cell
        for cell in cells
        if (not rows or cell.row.name in rows) and (not blocks or cell.block.name in blocks) and cell.values
    ]
    places = {(cell.block.name, cell.row.name): (cell.block, cell.row) for cell in mine}
    if not places:
        return f"{wanted.title or wanted.kind}: none of its runs is finished."
    try:
        plot = _KINDS[wanted.kind](study, mine, list(places.values()), options)
    except SslxError as error:
        return f"{wanted.title or wanted.kind}: cannot be drawn: {error}"
    plot.save(*(path.with_name(f"{path.name}{ending}") for ending in (".png", ".svg", ".pdf")))
    return Figure(plot.svg(), plot.alt, wanted.title, f"{path.name}.csv")


_Places = Sequence[tuple[Block, Line]]


def _points(cells: Sequence[Cell], column: str) -> list[plots.Point]:
    return [
        plots.Point(
            series=cell.row.name,
            x=cell.block.name if cell.block.x is None else cell.block.x,
            value=cell.centre,
            error=cell.spread,
            y=0 if cell.block.y is None else cell.block.y,
            panel=cell.block.panel,
            printed=cell.printed.centre if cell.printed else math.nan,
        )
        for cell in cells
        if cell.column.name == column
    ]


def _axis(study: Reproduction, cells: Sequence[Cell], places: _Places, options: dict[str, Any]) -> plots.Plot:
    column = options.get("column", study.design.columns[0].name)
    return plots.axis(_points(cells, column), options.get("xlabel", ""), column, options.get("logx", False))


def _heat(study: Reproduction, cells: Sequence[Cell], places: _Places, options: dict[str, Any]) -> plots.Plot:
    column = options.get("column", study.design.columns[0].name)
    return plots.heat(_points(cells, column), options.get("xlabel", ""), options.get("ylabel", ""), column)


def _scatter(study: Reproduction, cells: Sequence[Cell], places: _Places, options: dict[str, Any]) -> plots.Plot:
    """Two columns against each other; or with `column`, two blocks."""
    x, y, column = options["x"], options["y"], options.get("column")
    found = {
        (cell.row.name, cell.block.name if column else cell.column.name, "" if column else cell.block.name): cell
        for cell in cells
        if column in (None, cell.column.name)
    }
    pairs = []
    for name, block in dict.fromkeys((row.name, "" if column else block.name) for block, row in places):
        across, up = found.get((name, x, block)), found.get((name, y, block))
        if across is not None and up is not None:
            pairs.append(plots.Pair(name, across.centre, across.spread, up.centre, up.spread))
    return plots.scatter(pairs, f"{column}, {x}" if column else x, f"{column}, {y}" if column else y)


def _of_runs(draw: Callable[..., plots.Plot]) -> Callable[..., plots.Plot]:
    """A figure of what the methods of the first finished run of each place compute, with the names of the rows."""

    def drawn(study: Reproduction, cells: Sequence[Cell], places: _Places, options: dict[str, Any]) -> plots.Plot:
        several = len({block.name for block, _ in places}) > 1
        found = []
        for block, row in places:
            (subject,) = subjects(study.runs(block, row)[:1], study.launch)
            found.append(attrs.evolve(subject, name=f"{row.name}, {block.name}" if several else row.name))
        return draw(found, **options)

    return drawn


def _curves(study: Reproduction, cells: Sequence[Cell], places: _Places, options: dict[str, Any]) -> plots.Plot:
    runs = [run for block, row in places for run in study.runs(block, row)]
    return plots.curves(runs, options.get("records", ()))


_KINDS: dict[str, Callable[..., plots.Plot]] = {
    "axis": _axis,
    "heat": _heat,
    "scatter": _scatter,
    "curves": _curves,
    "planes": _of_runs(plots.planes),
    "similarity": _of_runs(plots.similarity),
    "posterior": _of_runs(plots.posterior),
    "images": _of_runs(plots.images),
}


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _markdown(title: str, lead: str, numbers: dict[str, str], sections: Sequence[Section]) -> str:
    """The page as Markdown, with the figures beside it."""
    blocks = [f"# {title}", lead, ", ".join(f"{name} {value}" for name, value in numbers.items()).capitalize() + "."]
    for section in sections:
        blocks.append(f"## {section.title}")
        for block in section.blocks:
            if isinstance(block, str):
                blocks.append(_escaped(block))
            elif isinstance(block, Rows):
                lines = [block.head, ["---:" if number else "---" for number in block.numeric], *block.rows]
                table = "\n".join(f"| {' | '.join(_escaped(str(cell)) for cell in line)} |" for line in lines)
                blocks.append(f"**{_escaped(block.caption)}**\n\n{table}")
            elif isinstance(block, Figure):
                picture = f"![{_escaped(block.alt)}]({block.csv.removesuffix('.csv')}.png)"
                blocks.append("\n\n".join(filter(None, [picture, _escaped(block.caption)])))
            elif isinstance(block, Notes):
                blocks.append("\n".join([f"{_escaped(block.title)}:", "", *(f"- {_escaped(x)}" for x in block.lines)]))
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    return text if set(text) <= set("-:") else re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", text)
