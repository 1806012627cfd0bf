"""Tables of runs: scores of methods, with mean and standard error over seeds, and the protocols behind them."""

import json
import math
import statistics
from collections.abc import Container, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import attrs

from sslx.core.errors import ConfigError, nearest
from sslx.core.options import short
from sslx.core.training.config import unlayer
from sslx.core.training.run import Run

TIME = "cpu-s"  # the column of processor time


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


@attrs.frozen
class Table:
    """Rows of one dataset."""

    dataset: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]


class _Group(NamedTuple):
    name: str
    runs: list[Run]


def tables(runs: Sequence[Run], wanted: Sequence[str] = ()) -> list[Table]:
    """A table for each dataset, with rows in the order in which the runs are given.

    Args:
        wanted: columns, by default all: names of scores, in which * stands for anything, or of evaluators, which mean
            their first score.

    Raises:
        ConfigError: no run has such a score.
    """
    known = _columns(runs)
    chosen = list(dict.fromkeys(column for pattern in wanted for column in _matching(pattern, known))) or list(known)
    evaluators = {known[column] for column in chosen} if wanted else None
    named = _named([run.settings for run in runs], "dataset")
    found = []
    for dataset in dict.fromkeys(named):
        groups = _groups([run for run, name in zip(runs, named, strict=True) if name == dataset])
        rows = [_row(group.name, group.runs, "trained") for group in groups]
        rows += _floors(groups, chosen)
        columns = [column for column in chosen if any(column in row.cells for row in rows)]
        notes = [*_summaries(groups, evaluators), *_differences(groups, evaluators)]
        found.append(Table(dataset, columns, rows, notes))
    return found


def _columns(runs: Sequence[Run]) -> dict[str, str]:
    """The columns that the runs can fill, and the evaluator of each."""
    scores = (
        (_column(evaluator, score), evaluator)
        for run in runs
        for evaluator, result in run.results.get("trained", {}).items()
        for score in result.get("scores", {})
    )
    return {**dict(scores), TIME: ""}


def _matching(pattern: str, known: Mapping[str, str]) -> list[str]:
    if columns := [column for column in known if fnmatchcase(column, pattern)]:
        return columns
    if columns := [column for column, evaluator in known.items() if evaluator == pattern]:
        return columns[:1]
    raise ConfigError(f"scores {pattern}: no run has such a score{nearest(pattern, known)}")


def failures(runs: Sequence[Run]) -> list[str]:
    """A line for each evaluator that failed."""
    return [
        f"{name} failed on {run.path}: {result['failed']}; `sslx eval {run.path} --evaluators {name}` tries again"
        for run in runs
        for name, result in run.results.get("trained", {}).items()
        if "failed" in result
    ]


# --- rows -------------------------------------------------------------------------------------------------------------


def _groups(runs: Sequence[Run]) -> list[_Group]:
    """Groups of runs that differ only in the seed. The same run repeated is another row, because it adds no seed."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        options = {name: value for name, value in run.settings.items() if name not in ("seed", "evaluators")}
        config, repeat, seed = json.dumps(options), 0, run.settings["seed"]
        while any(seed == other.settings["seed"] for other in groups.get((config, repeat), [])):
            repeat += 1
        groups.setdefault((config, repeat), []).append(run)
    names = _named([json.loads(config) for config, _ in groups], "method")
    return [
        _Group(name if names.count(name) == 1 else f"{name} ({members[0].path.name})", members)
        for name, members in zip(names, groups.values(), strict=True)
    ]


def _named(configs: Sequence[Mapping[str, Any]], part: str) -> list[str]:
    """The short name of a part for each config, and in brackets the options in which namesakes differ.

    For a method these are all options of the config; a dataset's are its own, as they make other data of it.
    """
    names = [short(config[part]["use"]) for config in configs]
    options = [_words(config if part == "method" else config[part]) for config in configs]
    found = []
    for name, mine in zip(names, options, strict=True):
        alike = [other for other_name, other in zip(names, options, strict=True) if other_name == name]
        values = {key: {other[key] for other in alike if key in other} for key in mine}
        differing = [f"{key}={value}" for key, value in mine.items() if len(values[key]) > 1]
        found.append(name + (f" ({', '.join(differing)})" if differing else ""))
    return found


def _words(options: Mapping[str, Any]) -> dict[str, str]:
    """Options by the dotted keys that `--set` takes, with their values as text."""
    values = unlayer(options).items()
    return {key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in values}


def _floors(groups: Sequence[_Group], columns: Sequence[str]) -> list[Row]:
    """Each untrained encoder that differs from the others in these columns."""
    floors: dict[str, Row] = {}
    for group in groups:
        if group.runs[0].name != "random":
            floor = _row(f"untrained encoder of {group.name}", group.runs, "untrained")
            # As text, because not a number is not equal to itself.
            floors.setdefault(repr([floor.cells.get(column) for column in columns]), floor)
    if len(floors) == 1:
        return [attrs.evolve(floor, name="untrained encoder") for floor in floors.values()]
    return list(floors.values())


def _row(name: str, runs: Sequence[Run], which: str) -> Row:
    values: dict[str, list[float]] = {}
    for run in runs:
        for evaluator, result in run.results.get(which, {}).items():
            for score, value in result.get("scores", {}).items():
                values.setdefault(_column(evaluator, score), []).append(value)
        if which == "trained" and (time := run.folder.read("training.json")):
            values.setdefault(TIME, []).append(time["cpu_seconds"])
    return Row(name, len(runs), {column: _cell(found) for column, found in values.items()})


def _cell(values: Sequence[float]) -> Cell:
    n = len(values)
    error = statistics.stdev(values) / math.sqrt(n) if n > 1 and all(map(math.isfinite, values)) else math.nan
    return Cell(statistics.fmean(values), error, n)


def _column(evaluator: str, score: str) -> str:
    """The score's name, with the evaluator's before it unless it begins like that."""
    return score if score == evaluator or score.startswith(f"{evaluator}-") else f"{evaluator}.{score}"


# --- protocols --------------------------------------------------------------------------------------------------------


def _summaries(groups: Sequence[_Group], evaluators: Container[str] | None) -> Iterator[str]:
    """A line for each evaluator and way in which it was used; if there are several, each line names its rows."""
    ways: dict[str, dict[str, dict[str, None]]] = {}
    for which in ("trained", "untrained"):
        for group in groups:
            row = group.name if which == "trained" else "untrained"
            for run in group.runs:
                for name, result in run.results.get(which, {}).items():
                    reason = next((f"{word}, {result[word]}" for word in ("skipped", "failed") if word in result), "")
                    ways.setdefault(name, {}).setdefault(reason or result["summary"], {})[row] = None
    for name, texts in ways.items():
        if evaluators is None or name in evaluators:
            for text, users in texts.items():
                yield f"{name}: {text}" if len(texts) == 1 else f"{name} of {', '.join(users)}: {text}"


def _differences(groups: Sequence[_Group], evaluators: Container[str] | None) -> Iterator[str]:
    """A line for each option of an evaluator that differs between runs, and for the number of training images."""
    values: dict[str, dict[str, dict[str, None]]] = {}
    for group in groups:
        for run in group.runs:
            facts = {"training images": str(run.data["samples"])}
            for name, result in run.results.get("trained", {}).items():
                if "scores" in result and (evaluators is None or name in evaluators):
                    if "checkpoint" in result:
                        yield f"note: {name} of {run.path} is that of step {result['checkpoint']}"
                    if "other_data" in result:
                        yield f"note: {name} of {run.path} is on other data: {result['other_data']}"
                    facts |= {
                        f"{name}.{key}": value for key, value in _words(result["options"]).items() if key != "use"
                    }
            for key, value in facts.items():
                values.setdefault(key, {}).setdefault(value, {})[group.name] = None
    for key, users in values.items():
        if len(users) > 1:
            parts = "; ".join(f"{value} of {', '.join(rows)}" for value, rows in users.items())
            yield f"note: the protocol differs in {key}: {parts}"
