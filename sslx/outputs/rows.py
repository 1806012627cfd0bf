"""Rows of tables: scores of runs that differ in nothing but the seed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import attrs

TIME = "cpu-s"  # the column of processor time
SEEN = "images"  # that of the images that training has seen, each time that it saw one


class Cell(NamedTuple):
    """A score of the runs of a row."""

    mean: float
    error: float  # the standard error of the mean, nan for one run
    n: int


@attrs.frozen
class Row:
    """Runs that differ in nothing but the seed."""

    name: str
    n: int
    cells: Mapping[str, Cell]
    scores: Mapping[str, Mapping[int, float]] = attrs.field(factory=dict)  # of each seed
    relative: bool = False  # whether its cells are differences from those of another row


@attrs.frozen
class Table:
    """Rows of one dataset."""

    dataset: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]


def mean_and_error(values: Sequence[float]) -> Cell:
    """The mean of values with its standard error, which is not a number for one value or if a value is not finite."""
    n = len(values)
    error = statistics.stdev(values) / math.sqrt(n) if n > 1 and all(map(math.isfinite, values)) else math.nan
    return Cell(statistics.fmean(values), error, n)
