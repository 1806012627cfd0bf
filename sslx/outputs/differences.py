"""Differences of the rows of a table from one of them, and whether they are more than chance over seeds."""

import math
from collections.abc import Iterator, Sequence

import attrs

from sslx.core.errors import ConfigError, nearest
from sslx.outputs.rows import SEEN, TIME, Cell, Row, Table, mean_and_error

_LEVEL = 0.95  # of the intervals


def relative(table: Table, name: str, judged: Sequence[str]) -> Table:
    """The table with the differences of all scores from those of one row, which keeps its own.

    Rows whose seeds are the same are compared seed by seed, others by their means. Images and processor time are
    not scores and stay as they are. A note for each row and judged column says whether the difference is more than
    chance.

    Args:
        name: the name of the row.
        judged: columns with a note.

    Raises:
        ConfigError: the table has no such row.
    """
    reference = next((row for row in table.rows if row.name == name), None)
    if reference is None:
        others = nearest(name, [row.name for row in table.rows])
        raise ConfigError(f"relative-to {name}: the table of {table.dataset} has no such row{others}")
    rows, notes = [], [f"note: the other rows are differences from the scores of {name}"]
    for row in table.rows:
        if row is not reference:
            kept = {column: cell for column, cell in row.cells.items() if column in (SEEN, TIME)}
            shared = [column for column in row.cells if column in reference.cells and column not in kept]
            cells = {column: _difference(row, reference, column) for column in shared}
            rows.append(attrs.evolve(row, cells={**cells, **kept}, relative=True))
        else:
            rows.append(row)
    for column in judged:
        notes += _statements(column, [row for row in table.rows if row is not reference], reference)
    columns = [column for column in table.columns if any(column in row.cells for row in rows)]
    return attrs.evolve(table, columns=columns, rows=rows, notes=[*table.notes, *notes])


def _pairs(row: Row, reference: Row, column: str) -> list[float]:
    """The differences seed by seed; empty if the seeds are not the same or there is only one."""
    mine, its = row.scores[column], reference.scores[column]
    return [mine[seed] - its[seed] for seed in mine] if mine.keys() == its.keys() and len(mine) > 1 else []


def _difference(row: Row, reference: Row, column: str) -> Cell:
    if pairs := _pairs(row, reference, column):
        return mean_and_error(pairs)
    mine, its = row.cells[column], reference.cells[column]
    return Cell(mine.mean - its.mean, math.hypot(mine.error, its.error), mine.n)


def _statements(column: str, rows: Sequence[Row], reference: Row) -> Iterator[str]:
    """What the seeds say of a score: a line for each trained row, and one for all rows that have one seed."""
    single = []
    for row in rows:
        if column not in row.cells or column not in reference.cells or TIME not in row.cells:
            continue
        if min(row.cells[column].n, reference.cells[column].n) < 2:
            single.append(row.name)
        elif math.isfinite(_difference(row, reference, column).error):
            yield f"{column}: {_statement(row, reference, column)}"
    if single:
        yield (
            f"{column}: one seed cannot say whether {', '.join(single)} differs from {reference.name} by more than "
            "chance; `sslx run --seed 0,1,2` trains three"
        )


def _statement(row: Row, reference: Row, column: str) -> str:
    """Whether zero is in the interval of the difference: Student's t, or Welch's if the seeds are not the same."""
    from scipy.stats import t  # slow to import

    difference, cells = _difference(row, reference, column), (row.cells[column], reference.cells[column])
    if _pairs(row, reference, column):
        freedom, seeds = difference.n - 1.0, f"{difference.n} seeds, paired"
    else:
        parts = sum(cell.error**4 / (cell.n - 1) for cell in cells)
        freedom = difference.error**4 / parts if parts else math.inf
        seeds = " and ".join(str(cell.n) for cell in cells) + " seeds"
    half = t.ppf((1 + _LEVEL) / 2, freedom) * difference.error
    low, high = difference.mean - half, difference.mean + half
    between = f"{_LEVEL:.0%} confidence interval of the difference {low:+.4f} to {high:+.4f}, {seeds}"
    if low <= 0 <= high:
        return f"the seeds show no difference between {row.name} and {reference.name} ({between})"
    return f"{row.name} is {'above' if difference.mean > 0 else 'below'} {reference.name} ({between})"
