"""A process that ends before a file operation, as by kill -9. The run then ends as one that nothing ever ended."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs

from .runs import SCORED, Case, Place, ended, every_method, outcome
from .server import CRASHED

_SHORT: dict[str, Any] = {"subset": 48, "train": {"epochs": 2, "checkpoint_steps": 2, **SCORED}}
_SWEEP = """
subset = 48
evaluators = ["knn"]
[train]
epochs = 1
batch_size = 16
[[runs]]
method = {use = "vae", encoder.hidden = [8], decoder.hidden = [8]}
[[runs]]
method = {use = "ae", encoder.hidden = [8], decoder.hidden = [8]}
"""
_SEARCH = """
method = {use = "vae", encoder.hidden = [8], decoder.hidden = [8]}
subset = 48
evaluators = ["knn"]
[train]
epochs = 2
batch_size = 16
evaluate.every = 1
[search]
trials = 7
seed = 2
[search.space]
"train.lr" = {low = 1e-4, high = 1, log = true}
"encoder.dim" = [1, 2, 8]
"""


@attrs.frozen
class Story:
    """A command that is carried out from a beginning, and what it comes to when nothing happens."""

    name: str
    command: list[str]
    again: list[str]  # the command that goes on; if there is nothing to go on with, it is the same as before
    begin: Path | None
    expected: dict[str, dict[str, Any]]  # of each run by its folder
    operations: list[str]
    trials: dict[str, Any]  # of a search

    @property
    def points(self) -> list[int]:
        """The numbers of the operations, but of many equal ones in a row the first, the middle and the last alone."""
        found = list[int]()
        for _, group in itertools.groupby(enumerate(self.operations, 1), lambda each: each[1]):
            numbers = [number for number, _ in group]
            found += sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
        return found


def _story(place: Place, name: str, command: list[str], again: list[str], begin: Path | None) -> Story:
    folder = place.fresh("whole", begin)
    place.must(folder, command, operations=str(place.folder / "operations"))
    runs = [path.parent for path in sorted((folder / "run").rglob("config.toml"))]
    expected = {str(path.relative_to(folder)): outcome(path) for path in runs}
    operations = (place.folder / "operations").read_text().splitlines()
    return Story(name, command, again, begin, expected, operations, trials(folder / "run" / "search.journal"))


def trials(journal: Path) -> dict[str, Any]:
    """The options, the values and the end of each trial of a search, by its run, as Optuna itself reads them."""
    if not journal.exists():
        return {}
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(str(journal))))
    return {
        trial.user_attrs["run"]: (trial.params, trial.intermediate_values, trial.state.name, trial.values)
        for trial in study.get_trials()
    }


def of_a_run(place: Place, method: str) -> Iterator[Story]:
    """A new run, and one that is stopped, made longer and evaluated again."""
    run, resume = place.run(method, **_SHORT), ["resume", "run"]
    yield _story(place, f"run -p {method}", run, resume, None)
    stopped = place.fresh(f"{method} stopped")
    done = place.server(stopped, [run], stop=3)
    if done[0].code == 75:  # a method without training does not stop
        yield _story(place, f"resume of {method}", resume, resume, stopped / "run")
    finished = place.fresh(f"{method} finished")
    place.must(finished, run)
    longer = ["resume", "run", "--epochs", "3"]
    yield _story(place, f"resume --epochs of {method}", longer, longer, finished / "run")
    scores = ["eval", "run", "-e", "knn,linear", "--set", "knn.neighbours=4"]
    yield _story(place, f"eval of {method}", scores, scores, finished / "run")


def of_a_grid(place: Place) -> Story:
    """A grid of two runs."""
    sweep = place.folder / "sweep.toml"
    sweep.write_text(_SWEEP)
    command = ["run", "--sweep", str(sweep), "--out", "run", "--device", "cpu"]
    return _story(place, "a grid", command, ["resume", "run"], None)


def of_a_search(place: Place) -> list[Story]:
    """A search of seven runs of two epochs; none without Optuna."""
    if not find_spec("optuna"):
        return []
    sweep = place.folder / "search.toml"
    sweep.write_text(_SEARCH)
    command = ["run", "--sweep", str(sweep), "--out", "run", "--device", "cpu"]
    return [_story(place, "a search", command, ["resume", "run"], None)]


def cases(place: Place, chosen: random.Random, quick: bool = False) -> Iterator[Case]:
    """Every operation of a new run of `vae`, then random ones of all methods and stories, some of them two in a row.

    Args:
        quick: random operations of `vae`, of a grid and of a search alone.
    """
    stories = [*of_a_run(place, "vae"), of_a_grid(place), *of_a_search(place)]
    if quick:
        longer = next(story for story in stories if "--epochs" in story.name)
        for number, operation in enumerate(longer.operations, 1):
            if "config.toml" in operation:  # options change in two files, which cannot be at once
                yield crashed(place, longer, [number])
        for turn in itertools.count():
            story = stories[turn % len(stories)]
            yield crashed(place, story, [chosen.choice(story.points)], same=chosen.random() < 0.5)
    for story in stories:
        for number in story.points:
            for same in (False, True)[: 2 if story.command != story.again else 1]:
                yield crashed(place, story, [number], same)
    while True:
        for method in every_method():
            stories = [*of_a_run(place, method)]
            for _ in range(10):
                story = chosen.choice(stories)
                numbers = [chosen.choice(story.points) for _ in range(chosen.choice([1, 1, 2]))]
                yield crashed(place, story, numbers, same=chosen.random() < 0.5)


def crashed(place: Place, story: Story, numbers: list[int], same: bool = False) -> Case:
    """The process ends before these file operations, one in each attempt; then nothing happens any more.

    Args:
        same: whether to go on with the same command, instead of `resume`.
    """
    folder = place.fresh("crashed", story.begin)
    first = f"{numbers[0]} ({story.operations[numbers[0] - 1]})"
    where = ", then ".join([first, *map(str, numbers[1:])])
    name = f"{story.name}: ends before file operation {where}, then `{'same command' if same else story.again[0]}`"
    command = story.command
    for number in numbers:
        (done,) = place.server(folder, [command], crash=number)
        if done.code != CRASHED and number == numbers[0]:
            return Case(name, f"exit code {done.code} instead of a crash: {done.errors[-200:]}")
        command = story.command if same or not _begun(folder / "run") else story.again
    (done,) = place.server(folder, [command])
    if done.code != 0 and not (same and done.code == 2 and "holds a finished run" in done.errors):
        return Case(name, f"exit code {done.code}: {done.errors[-300:]}")
    problems = [
        f"{run} {problem}" for run, expected in story.expected.items() if (problem := ended(folder / run, expected))
    ]
    if story.begin is not None and (before := story.begin / "results.json").is_file():
        kept = [json.loads(path.read_text()) for path in (folder / "run").glob("results-*.json")]
        if json.loads(before.read_text()) not in kept:
            problems.append("the earlier results are gone")
    if story.trials != trials(folder / "run" / "search.journal"):
        problems.append("the search has other trials")
    return Case(name, "; ".join(problems))


def _begun(run: Path) -> bool:
    return (run / "config.toml").is_file() or (run / "grid.json").is_file()
