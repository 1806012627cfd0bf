"""A table of runs as text, Markdown, CSV or LaTeX."""

import csv
import io
import math
import re
import textwrap
from collections.abc import Iterator, Sequence

import attrs
from tabulate import tabulate

from sslx.outputs.rows import SEEN, TIME, Cell, Row, Table

Grid = list[list[str]]  # rows of cells; the first row is the head
_LETTERS = (24, 16)  # of a name in one line, if a table is too wide


def text(tables: Sequence[Table], width: float = math.inf) -> str:
    """Tables that fit into the width, with their notes below.

    If a table is too wide, scores that few of its methods have are in a second one. A table that is still too wide has
    its names in several lines, is turned if that is not enough, and broken into parts if needed.
    """
    blocks = []
    for table in tables:
        parts = [part for each in _by_frequency(table, width) for part in _fitting(cells(each), width)]
        written = "\n\n".join(as_table(part, "simple") for part in parts)
        blocks.append("\n".join([_title(table), written, *table.notes]))
    return "\n\n".join(blocks) + "\n"


def markdown(tables: Sequence[Table]) -> str:
    def escaped(cell: str) -> str:
        return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", cell)

    blocks = []
    for table in tables:
        grid = [[escaped(cell) for cell in row] for row in cells(table)]
        notes = [f"- {escaped(note)}" for note in table.notes]
        blocks.append("\n".join([f"**{escaped(_title(table))}**\n", as_table(grid, "pipe"), "", *notes]))
    return "\n\n".join(blocks) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """Tabulars; their titles and notes are comments above and below."""
    blocks = []
    for table in tables:
        notes = [f"% {note}" for note in table.notes]
        blocks.append("\n".join([f"% {_title(table)}", as_table(cells(table), "latex"), *notes]))
    return "\n\n".join(blocks) + "\n"


def comma_separated(tables: Sequence[Table]) -> str:
    """All tables in one, at full precision; each score has a column for its mean and one for its standard error."""
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["dataset", "method", "n", *(name for column in columns for name in (column, f"{column} se"))])
    for table in tables:
        for row in table.rows:
            cells = [row.cells.get(column, Cell(math.nan, math.nan, 0)) for column in columns]
            numbers = [number for cell in cells for number in (cell.mean, cell.error)]
            blank = ["" if math.isnan(number) else repr(number) for number in numbers]
            writer.writerow([table.dataset, row.name, row.n, *blank])
    return file.getvalue()


FORMATS = {"text": text, "markdown": markdown, "csv": comma_separated, "latex": latex}


class Comparison(list[Table]):
    """Tables that are printed as text and shown as tables in a notebook."""

    def __repr__(self) -> str:
        return text(self)

    def _repr_markdown_(self) -> str:
        return markdown(self)


def _title(table: Table) -> str:
    return f"Representations of {table.dataset}"


def cells(table: Table) -> Grid:
    """The table as text. The number of seeds is shown if a row has several."""
    seeds = any(row.n > 1 for row in table.rows)
    head = ["method", *(["n"] if seeds else []), *table.columns]
    return [head] + [
        [row.name, *([str(row.n)] if seeds else []), *(_number(row, column) for column in table.columns)]
        for row in table.rows
    ]


def _number(row: Row, column: str) -> str:
    if column not in row.cells:
        return "-"
    cell, digits = row.cells[column], {TIME: 1, SEEN: 0}.get(column, 4)
    error = "" if math.isnan(cell.error) else f" ± {cell.error:.{digits}f}"
    fewer = f" (n={cell.n})" if cell.n != row.n else ""
    sign = "+" if row.relative and column not in (SEEN, TIME) else ""
    return f"{cell.mean:{sign}.{digits}f}{error}{fewer}"


def as_table(grid: Grid, style: str) -> str:
    """A table with a head, as text: names to the left, numbers to the right."""
    alignment = ("left", *("right" for _ in grid[0][1:]))
    return tabulate(grid[1:], grid[0], style, disable_numparse=True, colalign=alignment)


def _width(grid: Grid) -> int:
    return max(map(len, as_table(grid, "simple").splitlines()))


def _by_frequency(table: Table, width: float) -> Iterator[Table]:
    """The table, or if it is too wide one with the scores that most of its methods have and one with the others."""
    methods = [row for row in table.rows if TIME in row.cells] or table.rows
    having = {column: sum(column in row.cells for row in methods) for column in table.columns}
    rare = [column for column, n in having.items() if 2 * n <= len(methods) and column not in (SEEN, TIME)]
    common = [column for column in table.columns if column not in rare]
    if not rare or not {*common} - {SEEN, TIME} or _width(cells(table)) <= width:
        yield table
        return
    yield attrs.evolve(table, columns=common)
    users = [row for row in table.rows if any(column in row.cells for column in rare)]
    yield attrs.evolve(table, columns=rare, rows=users)


def _fitting(grid: Grid, width: float) -> Iterator[Grid]:
    """The grid or the turned one, with names in as few lines as fit; in parts, if neither fits."""
    for letters in (width, *_LETTERS):
        for shown in (grid, _turned(grid)):
            if _width(folded := _folded(shown, letters)) <= width:
                yield folded
                return
    folded = _folded(grid, _LETTERS[-1])
    yield from min((list(_broken(shown, width)) for shown in (_turned(folded), folded)), key=len)


def _folded(grid: Grid, letters: float) -> Grid:
    """The grid with names of so many letters in a line, if no word has more."""
    if math.isinf(letters):
        return grid

    def lines(name: str) -> str:
        return textwrap.fill(name, int(letters), break_long_words=False, break_on_hyphens=False)

    head, *rows = grid
    return [[lines(name) for name in head], *([lines(row[0]), *row[1:]] for row in rows)]


def _turned(grid: Grid) -> Grid:
    return [list(column) for column in zip(*grid, strict=True)]


def _broken(grid: Grid, width: float) -> Iterator[Grid]:
    """Parts of the grid that fit into the width, each with the first column and at least one more.

    Rows that are empty in a part are left out.
    """
    first, *columns = _turned(grid)
    parts = [[first]]
    for column in columns:
        if len(parts[-1]) > 1 and _width(_turned([*parts[-1], column])) > width:
            parts.append([first])
        parts[-1].append(column)
    for part in parts:
        head, *rows = _turned(part)
        yield [head, *(row for row in rows if set(row[1:]) != {"-"})]
