"""Tables of runs: scores of methods, with mean and standard error over seeds, and the protocols behind them."""

import json
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import attrs

from sslx.core.catalogue import catalogue
from sslx.core.errors import ConfigError, PluginError, nearest
from sslx.core.options import short
from sslx.core.training.config import unlayer
from sslx.core.training.during import column_of
from sslx.core.training.run import Run
from sslx.outputs.differences import relative
from sslx.outputs.rows import SEEN, TIME, Cell, Row, Table, mean_and_error

_VALUE = re.compile(r"=[\d.]+(?:e[+-]?\d+)?\b")  # that an evaluator has chosen
_HARDLY = 0.01  # a smaller gain in accuracy, which another seed may undo, on however many test images


class _Scored(NamedTuple):
    """What a run reached on one dataset."""

    run: Run
    results: Mapping[str, Any]
    dataset: Mapping[str, Any]  # with its options
    images: str  # a hash of those that were tested, empty if it is not known


class _Group(NamedTuple):
    name: str
    members: list[_Scored]


def tables(runs: Sequence[Run], wanted: Sequence[str] = (), sort_by: str = "", relative_to: str = "") -> list[Table]:
    """A table for each dataset that was scored, with rows in the order in which the runs are given.

    Args:
        wanted: columns, by default all: names of scores, in which * stands for anything, or of evaluators, which mean
            their first score.
        sort_by: a score, or an evaluator for its first one, by which the trained rows are sorted. The best one comes
            first if the evaluator says what is best, otherwise the largest one. The floors stay at the end.
        relative_to: the name of a row, or of its method or run if no other row has it. All others then have the
            differences of their scores from those of this row, with a note on whether they are more than chance for
            the columns that are named, by default the first score of each evaluator.

    Raises:
        ConfigError: no run has such a score, or a table has no such row.
    """
    scored = [each for run in runs for each in _scored(run)]
    known = _columns(scored)
    chosen = list(dict.fromkeys(column for pattern in wanted for column in _matching(pattern, known))) or list(known)
    evaluators = {known[column] for column in chosen} if wanted else None
    sorting = _Sorting.by(sort_by, known, scored) if sort_by else None
    named = _titles(scored)
    found = []
    for dataset in dict.fromkeys(named):
        groups = _groups([each for each, name in zip(scored, named, strict=True) if name == dataset])
        rows = [_row(group.name, group.members, "trained") for group in groups]
        if sorting is not None:
            rows.sort(key=sorting.place)
        rows += _floors(groups, chosen)
        columns = [column for column in chosen if any(column in row.cells for row in rows)]
        notes = [*_summaries(groups, evaluators), *_differences(groups, evaluators), *_verdicts(groups, columns)]
        if sorting is not None:
            notes.append(sorting.note)
        table = Table(dataset, columns, rows, notes)
        if relative_to:
            judged = [column for column in columns if column in wanted] or _headlines(groups, columns)
            table = relative(table, _meant(relative_to, groups), judged)
        found.append(table)
    return found


def _meant(name: str, groups: Sequence[_Group]) -> str:
    """The row with this name, or else the only one with a method or a run of this name."""
    found = [
        group.name
        for group in groups
        if any(name in (each.run.name, each.run.path.name, str(each.run.path)) for each in group.members)
    ]
    return found[0] if len(found) == 1 and name not in [group.name for group in groups] else name


def _scored(run: Run) -> list[_Scored]:
    """A run on each dataset that it was scored on, its own first."""
    results, settings = run.results, run.settings
    other = settings.get("eval_dataset", "none")
    own = {"dataset": settings["dataset"] if other == "none" else other}
    found = []
    for each in (results, *results.get("others", [])):
        data = each.get("data", own)
        found.append(_Scored(run, each, data["dataset"], data.get("sha256", "")))
    return found


def _titles(scored: Sequence[_Scored]) -> list[str]:
    """The name of the table of each: the dataset, its options where they differ, and a hash of the images if they do.

    Results whose images are not known, as of version 0.1, are in the first table of their dataset.
    """
    names = named([{"dataset": each.dataset} for each in scored], "dataset")
    images: dict[str, list[str]] = {}
    for name, each in zip(names, scored, strict=True):
        if each.images and each.images not in images.setdefault(name, []):
            images[name].append(each.images)
    return [
        name if not each.images or images[name].index(each.images) == 0 else f"{name} (images {each.images[:8]})"
        for name, each in zip(names, scored, strict=True)
    ]


def _columns(scored: Sequence[_Scored]) -> dict[str, str]:
    """The columns that the runs can fill, and the evaluator of each."""
    scores = (
        (column_of(evaluator, score), evaluator)
        for each in scored
        for evaluator, result in each.results.get("trained", {}).items()
        for score in result.get("scores", {})
    )
    return {**dict(scores), SEEN: "", TIME: ""}


def _matching(pattern: str, known: Mapping[str, str], where: str = "scores") -> list[str]:
    if columns := [column for column in known if fnmatchcase(column, pattern)]:
        return columns
    if columns := [column for column, evaluator in known.items() if evaluator == pattern]:
        return columns[:1]
    raise ConfigError(f"{where} {pattern}: no run has such a score{nearest(pattern, known)}")


def alike(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Runs that differ in nothing but the seed, together and under the name of their row."""
    groups = _groups([_Scored(run, {}, {}, "") for run in runs])
    return [(group.name, [each.run for each in group.members]) for group in groups]


class Reached(NamedTuple):
    """Scores of runs that differ in nothing but the seed, on one dataset."""

    dataset: str  # the title of its table
    runs: Sequence[Run]
    cells: Mapping[str, Cell]


def reached(runs: Sequence[Run], wanted: Sequence[str]) -> tuple[list[str], list[Reached]]:
    """The columns that match, as `tables` chooses them, and the scores of trained runs. Raises ConfigError."""
    scored = [each for run in runs for each in _scored(run)]
    known = _columns(scored)
    chosen = dict.fromkeys(column for pattern in wanted for column in _matching(pattern, known))
    titles = _titles(scored)
    found = []
    for dataset in dict.fromkeys(titles):
        for _, members in _groups([each for each, name in zip(scored, titles, strict=True) if name == dataset]):
            found.append(Reached(dataset, [each.run for each in members], _row("", members, "trained").cells))
    return list(chosen), found


def failures(runs: Sequence[Run]) -> list[str]:
    """A line for each evaluator that failed."""
    return [
        f"{name} failed on {run.path}: {result['failed']}; `sslx eval {run.path} --evaluators {name}` tries again"
        for run in runs
        for each in _scored(run)
        for name, result in each.results.get("trained", {}).items()
        if "failed" in result
    ]


# --- rows -------------------------------------------------------------------------------------------------------------


def _groups(scored: Sequence[_Scored]) -> list[_Group]:
    """Groups of runs that differ only in the seed. The same run repeated is another row, because it adds no seed."""
    groups: dict[tuple[str, int], list[_Scored]] = {}
    for each in scored:
        settings = each.run.settings
        options = {key: value for key, value in settings.items() if key not in ("seed", "evaluators", "eval_dataset")}
        config, repeat, seed = json.dumps(options), 0, settings["seed"]
        while any(seed == other.run.settings["seed"] for other in groups.get((config, repeat), [])):
            repeat += 1
        groups.setdefault((config, repeat), []).append(each)
    names = named([json.loads(config) for config, _ in groups], "method")
    return [
        _Group(name if names.count(name) == 1 else f"{name} ({members[0].run.path.name})", members)
        for name, members in zip(names, groups.values(), strict=True)
    ]


def named(
    configs: Sequence[Mapping[str, Any]], part: str, ignored: Callable[[str], bool] = lambda key: False
) -> list[str]:
    """The short name of a part for each config, and in brackets the options in which namesakes differ.

    For a method these are all options of the config; a dataset's are its own, as they make other data of it. Options
    whose dotted keys are ignored are left out. Weights of `random` are always named, as they are trained ones.
    """
    names = [short(config[part]["use"]) for config in configs]
    words = [_words(config if part == "method" else config[part]) for config in configs]
    options = [{key: value for key, value in mine.items() if not ignored(key)} for mine in words]
    found = []
    for name, mine in zip(names, options, strict=True):
        alike = [other for other_name, other in zip(names, options, strict=True) if other_name == name]
        values = {key: {other[key] for other in alike if key in other} for key in mine}
        differing = [
            f"{key}={value}"
            for key, value in mine.items()
            if len(values[key]) > 1 or ((name, key) == ("random", "weights") and value != "none")
        ]
        found.append(name + (f" ({', '.join(differing)})" if differing else ""))
    return found


def _words(options: Mapping[str, Any]) -> dict[str, str]:
    """Options by the dotted keys that `--set` takes, with their values as text."""
    values = unlayer(options).items()
    return {key: ",".join(map(str, value)) or "[]" if isinstance(value, list) else str(value) for key, value in values}


def _floors(groups: Sequence[_Group], columns: Sequence[str]) -> list[Row]:
    """The untrained encoders, the pixels and their principal components, as far as they differ in these columns."""
    return [
        *_distinct("untrained encoder", "untrained", [g for g in groups if g.members[0].run.name != "random"], columns),
        *_distinct("pixels", "pixels", groups, columns),
        *_distinct("pca", "pca", groups, columns),
    ]


def _distinct(name: str, which: str, groups: Sequence[_Group], columns: Sequence[str]) -> list[Row]:
    """The results of this kind of each group that differ from those of the groups before it."""
    found: dict[str, Row] = {}
    for group in groups:
        row = _row(f"{name} of {group.name}", group.members, which)
        if any(column in row.cells for column in columns) or which == "untrained":
            # As text, because not a number is not equal to itself.
            found.setdefault(repr([row.cells.get(column) for column in columns]), row)
    if len(found) == 1:
        return [attrs.evolve(row, name=name) for row in found.values()]
    return list(found.values())


def _row(name: str, members: Sequence[_Scored], which: str) -> Row:
    values: dict[str, dict[int, float]] = {}
    for each in members:
        seed = each.run.settings["seed"]
        for evaluator, result in each.results.get(which, {}).items():
            for score, value in result.get("scores", {}).items():
                values.setdefault(column_of(evaluator, score), {})[seed] = value
        if which == "trained" and (time := each.run.folder.read("training.json")):
            values.setdefault(TIME, {})[seed] = time["cpu_seconds"]
            if "images" in time:  # older runs do not say
                values.setdefault(SEEN, {})[seed] = time["images"]
    cells = {column: mean_and_error([*found.values()]) for column, found in values.items()}
    return Row(name, len(members), cells, values)


class _Sorting(NamedTuple):
    """The order of the rows of a table."""

    column: str
    best: float | None  # the score of a perfect representation; None: the larger the better

    @classmethod
    def by(cls, score: str, known: Mapping[str, str], scored: Sequence[_Scored]) -> "_Sorting":
        column = _matching(score, known, "sort-by")[0]
        for each in scored:
            result = each.results.get("trained", {}).get(known[column], {})
            columns = [column_of(known[column], name) for name in result.get("scores", {})]
            if column in columns:
                of_headline = column == columns[0] or column.startswith((f"{columns[0]}-", f"{columns[0]}@"))
                return cls(column, _best(result["options"].get("use", known[column])) if of_headline else None)
        return cls(column, 0.0)  # time or images

    def place(self, row: Row) -> float:
        """The smaller, the earlier; rows without the score come last."""
        mean = row.cells[self.column].mean if self.column in row.cells else math.nan
        if math.isnan(mean):
            return math.inf
        return -mean if self.best is None else abs(mean - self.best)

    @property
    def note(self) -> str:
        return f"note: sorted by {self.column}, {'largest' if self.best is None else 'best'} first"


def _best(evaluator: str) -> float | None:
    """The headline score of a perfect representation; None if the evaluator names none or is not installed."""
    try:
        with catalogue().on_record(trust=False):
            return getattr(catalogue().resolve("evaluator", evaluator, "sslx").cls, "best", None)
    except (PluginError, ConfigError):
        return None


# --- protocols --------------------------------------------------------------------------------------------------------


def _summaries(groups: Sequence[_Group], evaluators: Container[str] | None) -> Iterator[str]:
    """A line for each evaluator and way in which it was used; if there are several, each line names its rows."""
    ways: dict[str, dict[str, dict[str, None]]] = {}
    for which in ("trained", "untrained"):
        for group in groups:
            row = group.name if which == "trained" else "the untrained encoder"
            for each in group.members:
                for name, result in each.results.get(which, {}).items():
                    reason = next((f"{word}, {result[word]}" for word in ("skipped", "failed") if word in result), "")
                    ways.setdefault(name, {}).setdefault(reason or result["summary"], {})[row] = None
    for name, texts in ways.items():
        if evaluators is None or name in evaluators:
            joined = _joined(texts)
            for text, users in joined.items():
                yield f"{name}: {text}" if len(joined) == 1 else f"{name} of {', '.join(users)}: {text}"


def _joined(texts: Mapping[str, Mapping[str, None]]) -> dict[str, dict[str, None]]:
    """Texts that differ in chosen values alone, such as `C=20`, as one text with their range and all of their users."""
    found: dict[str, dict[str, None]] = {}
    for frame in dict.fromkeys(_VALUE.sub("=", text) for text in texts):
        alike = [text for text in texts if _VALUE.sub("=", text) == frame]
        columns = zip(*(_VALUE.findall(text) for text in alike), strict=True)
        ranges = iter([sorted(set(column), key=lambda value: float(value[1:])) for column in columns])

        def joined(_: re.Match[str], ranges: Iterator[list[str]] = ranges) -> str:
            values = next(ranges)
            return values[0] if len(values) == 1 else f"{values[0]} to {values[-1][1:]}"

        users = {user: None for text in alike for user in texts[text]}
        found.setdefault(_VALUE.sub(joined, alike[0]), {}).update(users)
    return found


def _differences(groups: Sequence[_Group], evaluators: Container[str] | None) -> Iterator[str]:
    """A line for each option of an evaluator that differs between runs, and for the number of training images."""
    values: dict[str, dict[str, dict[str, None]]] = {}
    for group in groups:
        for run, results, *_ in group.members:
            train = run.settings.get("train", {})
            if train.get("evaluate", {}).get("on") == "test" and train.get("stop", {}).get("by", "none") != "none":
                yield (
                    f"note: test labels decided when the training of {run.path} ended or which of its checkpoints is "
                    "the best (train.evaluate.on=test), so its scores are optimistic"
                )
            facts = {"training images": str(run.data["samples"])}
            for name, result in results.get("trained", {}).items():
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
    widths = dict.fromkeys(
        f"{of} of {width} dimensions"
        for group in groups
        for name, result in group.members[0].results.get("trained", {}).items()
        if evaluators is None or name in evaluators
        for of, width in result.get("of", {}).items()
        if len(result["of"]) == 1  # the names of columns say which, otherwise
    )
    if len(widths) > 1:
        yield f"note: the representations differ in width, which alone can change a score: {_listed([*widths])}"
    for key, users in values.items():
        if len(users) > 1:
            parts = "; ".join(f"{value} of {', '.join(rows)}" for value, rows in users.items())
            yield f"note: the protocol differs in {key}: {parts}"


def _verdicts(groups: Sequence[_Group], columns: Sequence[str]) -> Iterator[str]:
    """For each evaluator that has floors a line on which of them the rows beat, by its headline score."""
    for evaluator in dict.fromkeys(name for group in groups for name in group.members[0].results.get("pixels", {})):
        found: dict[str, list[str]] = {}
        for group in groups:
            if (scores := group.members[0].results.get("trained", {}).get(evaluator, {}).get("scores")) is None:
                continue
            column = column_of(evaluator, next(iter(scores)))
            if column not in columns:
                continue
            mine = _row("", group.members, "trained").cells[column]
            floors: dict[str, list[str]] = {"above": [], "hardly above": [], "not above": []}
            for which, name in (("untrained", "their untrained encoder"), ("pixels", "pixels"), ("pca", "pca")):
                floor = _row("", group.members, which).cells.get(column)
                if floor is not None and (which, group.members[0].run.name) != ("untrained", "random"):
                    gain, least = mine.mean - floor.mean, _least(mine.mean, group.members[0])
                    floors["above" if gain >= least else "hardly above" if gain > 0 else "not above"].append(name)
            joined = {words: _listed(names, "or" if "not" in words else "and") for words, names in floors.items()}
            text = _listed([f"{words} {names}" for words, names in joined.items() if names])
            for words in ("hardly", "not"):
                if "their untrained encoder" in floors[f"{words} above"]:
                    text += f"; training has {words} improved this score"
            found.setdefault(f"{column}: {{}} {text}", []).append(group.name)
        for text, names in found.items():
            is_one = len(names) == 1
            verb, text = ("is", text.replace("their", "its")) if is_one else ("are", text)
            yield text.format(f"{', '.join(names)} {verb}")


def _least(accuracy: float, scored: _Scored) -> float:
    """The least gain that is called one: two standard errors of an accuracy on so many test images, at least 0.01."""
    images = scored.results.get("data", {}).get("test", math.inf)  # what older versions scored does not say
    return max(_HARDLY, 2 * math.sqrt(max(0.0, accuracy * (1 - accuracy)) / images))


def _headlines(groups: Sequence[_Group], columns: Sequence[str]) -> list[str]:
    """The columns that are the first score of an evaluator."""
    results = [each.results.get("trained", {}) for group in groups for each in group.members]
    first = {
        column_of(name, next(iter(result["scores"])))
        for found in results
        for name, result in found.items()
        if result.get("scores")
    }
    return [column for column in columns if column in first]


def _listed(names: Sequence[str], last: str = "and") -> str:
    """Words as in a sentence: `a`, `a and b` or `a, b and c`."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
