"""A table of runs as text, Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence

from sslx.outputs.tables import TIME, Cell, Row, Table

Grid = list[list[str]]  # rows of cells, the first of them the head


def text(tables: Sequence[Table], width: float = math.inf) -> str:
    """Columns side by side as far as they fit; where they do not, the table is turned, and if need be broken."""
    blocks = []
    for table in tables:
        grid = _grid(table)
        if _width(grid) > width:
            grid = [list(column) for column in zip(*grid, strict=True)]
        parts = [_aligned(part) for part in _broken(grid, width)]
        blocks.append("\n".join([_title(table), "\n\n".join(parts), *table.notes]))
    return "\n\n".join(blocks) + "\n"


def markdown(tables: Sequence[Table]) -> str:
    return "\n\n".join("\n".join(_markdown(table)) for table in tables) + "\n"


def _markdown(table: Table) -> Iterator[str]:
    head, *rows = ([_escaped(cell, _MARKDOWN) for cell in row] for row in _grid(table))
    yield f"**{_escaped(_title(table), _MARKDOWN)}**\n"
    yield f"| {' | '.join(head)} |"
    yield "|---|" + "---:|" * (len(head) - 1)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""
    yield from (f"- {_escaped(note, _MARKDOWN)}" for note in table.notes)


def latex(tables: Sequence[Table]) -> str:
    return "\n\n".join("\n".join(_latex(table)) for table in tables) + "\n"


def _latex(table: Table) -> Iterator[str]:
    head, *rows = ([_escaped(cell, _LATEX) for cell in row] for row in _grid(table))
    yield rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}"
    yield rf"\multicolumn{{{len(head)}}}{{l}}{{{_escaped(_title(table), _LATEX)}}} \\ \hline"
    yield rf"{' & '.join(head)} \\ \hline"
    yield from (rf"{' & '.join(row)} \\" for row in rows)
    yield r"\hline"
    yield r"\end{tabular}"
    yield from (rf"\par{{\footnotesize {_escaped(note, _LATEX)}}}" for note in table.notes)


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


class Comparison(list[Table]):
    """Tables that are printed as text and shown as tables in a notebook."""

    def __str__(self) -> str:
        return text(self)

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return markdown(self)


FORMATS = {"text": text, "markdown": markdown, "csv": comma_separated, "latex": latex}


def _title(table: Table) -> str:
    return f"Representations of {table.dataset}"


def _grid(table: Table) -> Grid:
    """The table as text. The number of seeds is shown where there are several."""
    seeds = any(row.n > 1 for row in table.rows)
    head = ["method", *(["n"] if seeds else []), *table.columns]
    return [head] + [
        [row.name, *([str(row.n)] if seeds else []), *(_number(row, column) for column in table.columns)]
        for row in table.rows
    ]


def _number(row: Row, column: str) -> str:
    if column not in row.cells:
        return "-"
    cell, digits = row.cells[column], 1 if column == TIME else 4
    error = "" if math.isnan(cell.error) else f" ± {cell.error:.{digits}f}"
    fewer = f" (n={cell.n})" if cell.n != row.n else ""
    return f"{cell.mean:.{digits}f}{error}{fewer}"


def _width(grid: Grid) -> int:
    return sum(max(map(len, column)) + 2 for column in zip(*grid, strict=True)) - 2


def _broken(grid: Grid, width: float) -> Iterator[Grid]:
    """Parts of the grid that fit into the width, each with the first column and at least one more."""
    first, *columns = zip(*grid, strict=True)
    part: list[tuple[str, ...]] = [first]
    for column in columns:
        if len(part) > 1 and _width([list(row) for row in zip(*part, column, strict=True)]) > width:
            yield [list(row) for row in zip(*part, strict=True)]
            part = [first]
        part.append(column)
    yield [list(row) for row in zip(*part, strict=True)]


def _aligned(grid: Grid) -> str:
    """Names to the left, numbers to the right, a line below the head."""
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in grid
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


_MARKDOWN = {character: "\\" + character for character in "\\`*_[]<>|#~"}
_LATEX = {
    **{character: "\\" + character for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "²": r"\textsuperscript{2}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def _escaped(cell: str, special: dict[str, str]) -> str:
    return re.sub("[" + re.escape("".join(special)) + "]", lambda found: special[found[0]], cell)
