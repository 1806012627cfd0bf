"""Studies: tables and figures of papers as data. A study says which runs it needs and where each score goes.

`Study` is the component, which names a TOML file. `Design` is what the file holds; `runs/studies.py` carries it out.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from sslx.core.dotted import flatten
from sslx.core.errors import ConfigError, Problems, nearest
from sslx.core.files import misfit
from sslx.core.options import Component, option
from sslx.core.toml import read

_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?: *± *(\d+(?:\.\d+)?))?")


@attrs.frozen
class Value:
    """A number that a paper prints, and the number after its ±."""

    centre: float
    spread: float = math.nan


@attrs.frozen(eq=False)
class Column:
    """A score of the table."""

    name: str
    score: str  # "EVALUATOR.SCORE", as results.json has it
    scale: float = 1.0  # by which the score is multiplied: 100 for per cent
    digits: int = 1

    @property
    def evaluator(self) -> str:
        return self.score.partition(".")[0]


@attrs.frozen(eq=False)
class Line:
    """A row of the table, which is a method, or its options in one block."""

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=flatten)
    missing: str = ""  # the reason why it cannot be run
    note: str = ""  # what differs from the paper
    scores: Mapping[str, str] = attrs.field(factory=dict)  # column: a score in the place of the column's
    gain: Sequence[Sequence[str]] = ()  # two lists of rows, whose best scores it is the difference of


@attrs.frozen(eq=False)
class Block:
    """A part of the table, such as a dataset, or a place on the axes of a figure."""

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=flatten)
    rows: Mapping[str, Line] = attrs.field(factory=dict)  # what a row has in this block beside its own options
    printed: Mapping[str, Sequence[Value | None]] = attrs.field(factory=dict)  # row: a value for each column
    panel: str = ""
    x: float | str | None = None
    y: float | str | None = None
    files: str = ""  # folder below that of the data, without which this block cannot be run
    scores: Mapping[str, str] = attrs.field(factory=dict)  # column: a score in the place of the column's
    missing: str = ""
    note: str = ""


@attrs.frozen(eq=False)
class Figure:
    """A figure of the study, which `outputs/plots` draws."""

    kind: str
    title: str = ""
    options: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class Budget:
    """What one run may cost: options that go above all others, and what is left out."""

    options: Mapping[str, Any] = attrs.field(factory=dict, converter=flatten)
    seeds: int | None = None
    rows: Sequence[str] = ()  # empty: all
    blocks: Sequence[str] = ()
    by_block: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    by_row: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    drop: Sequence[str] = ()  # options of the study that are not set, with all options of a part
    says: str = ""  # why it is as it is, for the page


@attrs.frozen(eq=False)
class Design:
    """The content of a study's file."""

    title: str
    paper: str
    columns: Sequence[Column]
    rows: Sequence[Line]
    blocks: Sequence[Block]
    budgets: Mapping[str, Budget]
    shows: str = ""
    protocol: str = ""
    spread: Literal["error", "deviation"] = "error"
    centre: Literal["mean", "median"] = "mean"
    seeds: int = 1
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=flatten)
    evaluators: Mapping[str, Any] = attrs.field(factory=dict)
    figures: Sequence[Figure] = ()
    better: Sequence[Sequence[str]] = ()  # pairs of rows: does the first one beat the second?
    deviations: Sequence[str] = ()

    def places(self, budget: str) -> Iterator[tuple[Block, Line]]:
        """The pairs of a block and a row that this budget fills."""
        chosen = self.budgets[budget]
        for block in self.blocks:
            for row in self.rows:
                if (not chosen.blocks or block.name in chosen.blocks) and (not chosen.rows or row.name in chosen.rows):
                    yield block, row

    def missing(self, block: Block, row: Line) -> str:
        """Why this row cannot be run in this block; empty if it can."""
        inner = block.rows.get(row.name)
        return block.missing or row.missing or (inner.missing if inner is not None else "")

    def columns_of(self, block: Block, row: Line) -> list[Column]:
        """The columns with the scores that they have at this place; later ones win: study, block, row, row in block."""
        inner = block.rows.get(row.name)
        scores = {**block.scores, **row.scores, **(inner.scores if inner is not None else {})}
        return [attrs.evolve(column, score=scores.get(column.name, column.score)) for column in self.columns]

    def options_of(self, block: Block, row: Line, budget: str) -> dict[str, Any]:
        """The options of a run by dotted keys; later ones win: study, block, row, row in block, budget."""
        inner, chosen = block.rows.get(row.name), self.budgets[budget]
        own = inner.options if inner is not None else {}
        found = {**self.options, **block.options, **row.options, **own}
        kept = {key: v for key, v in found.items() if not any(f"{key}.".startswith(f"{d}.") for d in chosen.drop)}
        of_block, of_row = chosen.by_block.get(block.name, {}), chosen.by_row.get(row.name, {})
        return {**kept, **chosen.options, **flatten(of_block), **flatten(of_row)}

    def data(self, block: Block, row: Line, budget: str, folder: Path) -> Path | None:
        """The folder without which a run cannot begin, if that is known. `folder` is that of all data."""
        options = self.options_of(block, row, budget)
        if options.get("dataset") == "folder" and "dataset.path" in options:
            return Path(options["dataset.path"]).expanduser()
        return folder / block.files if block.files and options.get("dataset") != "stand-in" else None


class Study(Component, kind="study"):
    """A table or a figure of a paper, as a TOML file that says which runs it needs and where each score goes.

    `class Mine(Study, file="mine.toml")` is the study in a file beside the module. The file has

        title, paper         what it is, and which table or figure of which paper
        like                 another file beside it, whose keys hold where this one has none
        protocol, evaluators how runs are scored: a protocol of sslx, and tables of evaluators above it
        seeds, centre, spread  number of seeds; mean or median; error (standard error) or deviation
        [options]            options of all runs, as `--set` takes them
        [[columns]]          name, and score as "EVALUATOR.SCORE"; scale by which it is multiplied; digits
        [[rows]]             name and options; missing, the reason why it cannot be run; note; or instead of options
                             gain, two lists of rows: the best of the first minus the best of the second
        [[blocks]]           name and options of a part of the table, such as a dataset; x, y and panel for figures;
                             files, the folder of its data; [blocks.rows.ROW] as in rows; [blocks.printed] with what
                             the paper prints for each row: a list with a value for each column
                             In rows, blocks and rows of blocks, scores names other scores of some columns:
                             COLUMN = "EVALUATOR.SCORE"
        [budgets.NAME]       options above all others; seeds; rows and blocks that are run; by_block and by_row with
                             further options; drop, options of the study that it does not set; says
        [[figures]]          kind, title and options of a figure
        better               pairs of rows, of which the page says whether the first one has the larger scores
        deviations           sentences on what differs from the paper at every budget
    """

    file: str = option(
        help="TOML file with the study. That of a class of a package is found beside the module of the class."
    )

    def design(self) -> Design:
        """The content of the file. Raises ConfigError with one line for each mistake."""
        return _design(self.path)

    @property
    def path(self) -> Path:
        """The file, wherever the study was defined."""
        return Path(self.file) if type(self) is Study else Path(inspect.getfile(type(self))).parent / self.file


_LINE = {"name": str, "options?": dict, "missing?": str, "note?": str, "gain?": [[str]], "scores?": {str: str}}
_BLOCK = {
    "name": str, "options?": dict, "rows?": {str: dict}, "printed?": {str: list}, "panel?": str, "x?": object,
    "y?": object, "scores?": {str: str}, "files?": str, "missing?": str, "note?": str,
}  # fmt: skip
_BUDGET = {
    "options?": dict, "seeds?": int, "rows?": [str], "blocks?": [str], "by_block?": {str: dict},
    "by_row?": {str: dict}, "drop?": [str], "says?": str,
}  # fmt: skip
_SHAPE = {
    "title": str, "paper": str, "shows?": str, "protocol?": str, "spread?": str, "centre?": str, "seeds?": int,
    "options?": dict, "evaluators?": {str: dict}, "rows": [_LINE], "blocks": [_BLOCK],
    "columns": [{"name": str, "score": str, "scale?": float, "digits?": int}],
    "budgets": {str: _BUDGET}, "figures?": [{"kind": str, "title?": str}], "better?": [[str]], "deviations?": [str],
}  # fmt: skip
_INNER = {"columns": Column, "rows": Line, "figures": Figure}


def _design(path: Path) -> Design:
    table = _with_likes(path)
    if problem := misfit(table, _SHAPE):
        raise ConfigError(f"{path}: {problem}")
    problems = Problems()
    for where, given, cls in _tables(table):
        for key in sorted(given.keys() - {field.name for field in attrs.fields(cls)}):
            problems.append(f"{path}: {where}.{key}: is unknown{nearest(key, [f.name for f in attrs.fields(cls)])}")
    names = {"rows": [row["name"] for row in table["rows"]], "blocks": [block["name"] for block in table["blocks"]]}
    for what, found in names.items():
        problems.extend(f"{path}: {what}: two are called {each!r}" for each in found if found.count(each) > 1)
    mentioned = [("better", each, "rows") for pair in table.get("better", []) for each in pair]
    for row in table["rows"]:
        mentioned += [(f"rows.{row['name']}.gain", each, "rows") for part in row.get("gain", []) for each in part]
        if "gain" in row and len(row["gain"]) != 2:
            problems.append(f"{path}: rows.{row['name']}.gain: expected two lists of rows")
    mentioned += [(f"blocks.{b['name']}", row, "rows") for b in table["blocks"] for row in b.get("rows", {})]
    mentioned += [(f"blocks.{b['name']}.printed", row, "rows") for b in table["blocks"] for row in b.get("printed", {})]
    for name, budget in table["budgets"].items():
        mentioned += [(f"budgets.{name}.{what}", each, what) for what in names for each in budget.get(what, [])]
        for what in names:
            mentioned += [(f"budgets.{name}.by_{what[:-1]}", each, what) for each in budget.get(f"by_{what[:-1]}", {})]
    for where, each, what in mentioned:
        if each not in names[what]:
            problems.append(f"{path}: {where}: {each!r} is not one of the {what}{nearest(each, names[what])}")
    for key, allowed in (("spread", ("error", "deviation")), ("centre", ("mean", "median"))):
        if table.get(key, allowed[0]) not in allowed:
            problems.append(f"{path}: {key}: expected {' or '.join(allowed)}, got {table[key]!r}")
    problems.check()
    blocks = []
    for block in table["blocks"]:
        printed = {row: [_value(each, path) for each in values] for row, values in block.get("printed", {}).items()}
        if wrong := [row for row, values in printed.items() if len(values) != len(table["columns"])]:
            raise ConfigError(f"{path}: blocks.{block['name']}.printed.{wrong[0]}: expected a value for each column")
        rows = {row: Line(name=row, **each) for row, each in block.get("rows", {}).items()}
        blocks.append(Block(**{**block, "printed": printed, "rows": rows}))
    inner = {key: [cls(**each) for each in table.get(key, [])] for key, cls in _INNER.items()}
    budgets = {name: Budget(**budget) for name, budget in table["budgets"].items()}
    return Design(**{**table, **inner, "blocks": blocks, "budgets": budgets})


def _with_likes(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a file, with those of the file that it is like, and so on, where it has none."""
    if path in seen:
        raise ConfigError(f"{path}: like: expected a file that is not like this one")
    table = read(path)
    base = table.pop("like", None)
    return {**_with_likes(path.parent / base, (*seen, path)), **table} if isinstance(base, str) else table


def _tables(table: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], type]]:
    """Each table of the file, with its place and with the class that it becomes."""
    yield "the file", table, Design
    for key, cls in {**_INNER, "blocks": Block}.items():
        for each in table.get(key, []):
            yield f"{key}.{each.get('name', each.get('kind'))}", each, cls
    for block in table["blocks"]:
        for row, each in block.get("rows", {}).items():
            yield f"blocks.{block['name']}.rows.{row}", each, Line
    for name, budget in table["budgets"].items():
        yield f"budgets.{name}", budget, Budget


def _value(printed: Any, path: Path) -> Value | None:
    """`98.4`, "98.4 ± 0.1", or "-" for an empty cell."""
    if printed in ("", "-"):
        return None
    found = _NUMBER.fullmatch(str(printed))
    if found is None:
        raise ConfigError(f'{path}: printed: expected a number, "98.4 ± 0.1" or "-", got {printed!r}')
    return Value(float(found[1]), float(found[2] or math.nan))
