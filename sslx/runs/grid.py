"""Many runs in one folder that is resumed as a whole. Several processes may carry them out, each a run at a time.

grid.json     the configs of all runs by the names of their folders, and how they are carried out
failed.json   errors of the runs that failed, if any did
NAME/         a run
search.journal  the study of a search, which chooses some options of each run when it begins
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from filelock import FileLock

from sslx.core import signals
from sslx.core.console import is_main, say
from sslx.core.errors import CheckpointError, ConfigError, Interrupted, LostError, NonFiniteError, Problems, Pruned
from sslx.core.files import digest, plain, replace, untangled
from sslx.core.options import to_dict
from sslx.core.training.config import RunConfig, layer, unlayer
from sslx.core.training.run import Launch, Run, recorded
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.outputs import report
from sslx.runs import provenance, session
from sslx.runs.jobs import Attempt, Failure, at_once, failure_of
from sslx.runs.search import Search, UnknownScore
from sslx.runs.workers import shared

if TYPE_CHECKING:
    from sslx.runs.trials import Trials

_FAILED = "failed.json"
_NAME = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")  # of a run's folder


@attrs.frozen
class Grid:
    """Runs by name, in their order, and their folder."""

    path: Path
    configs: Mapping[str, Mapping[str, Any]]  # as plain values
    launch: Launch
    restarts: bool = False  # whether runs that differ in the seed alone are attempts, of which the best counts
    trust_code: bool = False  # whether files of code that grid.json names are executed
    search: Search | None = None  # what varies the runs, whose configs are equal

    @classmethod
    def make(
        cls,
        path: Path | None,
        configs: Mapping[str, RunConfig],
        launch: Launch,
        restarts: bool = False,
        trust_code: bool = False,
    ) -> Grid:
        """The grid of these runs, not written yet. Without a path, its folder below `runs` is a function of the runs.

        Raises ConfigError if two runs are the same.
        """
        values = {name: plain(to_dict(config)) for name, config in configs.items()}
        texts = {name: json.dumps(config, sort_keys=True) for name, config in values.items()}
        if twice := [name for name, text in texts.items() if list(texts.values()).count(text) > 1]:
            raise ConfigError(f"the same run more than once: {', '.join(twice)}")
        key = hashlib.sha256("".join(sorted(texts.values())).encode()).hexdigest()[:8]
        return cls(path or Path("runs") / f"grid-{key}", values, launch, restarts, trust_code)

    @classmethod
    def searching(
        cls, path: Path | None, search: Search, config: RunConfig, launch: Launch, trust_code: bool = False
    ) -> Grid:
        """The grid of the trials of a search, not written yet."""
        values = plain(to_dict(config))
        key = digest([values, plain(search.plain())])[:8]
        trials = dict.fromkeys(search.names(), values)
        _trials_class()  # is there at all
        return cls(path or Path("runs") / f"search-{key}", trials, launch, False, trust_code, search)

    def create(self) -> None:
        """Write grid.json, unless an earlier command did. Raises ConfigError if there is something else."""
        what = {"runs": self.configs} | ({} if self.search is None else {"search": plain(self.search.plain())})
        own = {".grid.json.lock", ".grid.json.draft"}  # of another process that runs the same command at this moment
        there = [self.path] if self.path.is_file() else self.path.iterdir() if self.path.exists() else []
        if not is_grid(self.path) and any(each.name not in own for each in there):
            raise ConfigError(f"out: {self.path} exists and is not empty")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            untangled(self.path)
            with FileLock(self.path / ".grid.json.lock"):
                facts = _read(self.path) if is_grid(self.path) else None
                if facts is None or self._continues(facts):
                    how = {"launch": self.launch.record(), "restarts": self.restarts}
                    RunFolder(self.path).write("grid.json", what | how)
        except OSError as error:
            raise ConfigError(f"out: {self.path} cannot be written ({error.strerror})") from error
        facts = _read(self.path)
        if any(facts.get(name) != what.get(name) for name in ("runs", "search")):
            raise ConfigError(f"out: {self.path} holds other runs; `sslx resume {self.path}` continues those")

    def discard(self) -> None:
        """Remove grid.json again, of whose runs none has begun."""
        (self.path / "grid.json").unlink()
        (self.path / ".grid.json.lock").unlink(missing_ok=True)
        with suppress(OSError):  # there is something else
            self.path.rmdir()

    def _continues(self, facts: Mapping[str, Any]) -> bool:
        """Whether these are the trials of an earlier command, by its grid.json, and further ones."""
        before = facts.get("search")
        if self.search is None or not isinstance(before, Mapping):
            return False
        n, first = len(facts["runs"]), dict(list(self.configs.items())[: len(facts["runs"])])
        same = plain(self.search.plain()) == {**before, "trials": self.search.options.trials}
        return same and n < len(self.configs) and facts["runs"] == first

    @classmethod
    def open(cls, path: Path, trust_code: bool = False) -> Grid:
        """The grid that an earlier command made at `path`."""
        facts = _read(path)
        search = Search.recorded(path / "grid.json", facts.get("search"))
        if search is not None and len(facts["runs"]) != search.options.trials:
            raise CheckpointError(f"{path / 'grid.json'}: damaged: expected {search.options.trials} trials")
        return cls(path, facts["runs"], Launch.recorded(facts["launch"]), facts["restarts"], trust_code, search)

    def trials(self) -> Trials | None:
        """The trials of its search, if it has one. Raises ConfigError without Optuna, and CheckpointError."""
        if self.search is None:
            return None
        return _trials_class()(
            self.path, self.search, [*self.configs], self._configured(next(iter(self.configs.values())))
        )

    def finished(self) -> list[Run]:
        runs = (Run(RunFolder(self.path / each), trust_code=self.trust_code) for each in self.configs)
        return [run for run in runs if run.folder.finished]

    def ranking(self) -> list[list[Run]]:
        """Finished runs that differ in the seed alone together, the one with the smallest label-free score first."""
        groups: dict[str, list[Run]] = {}
        for run in self.finished():
            config = {name: value for name, value in run.settings.items() if name != "seed"}
            groups.setdefault(json.dumps(config), []).append(run)
        return [sorted(runs, key=lambda run: run.training.get("score", math.inf)) for runs in groups.values()]

    def carry_out(self, jobs: int = 1, only: str | None = None) -> list[str]:
        """Carry out the runs that are not finished. Returns a line for each that failed; it is tried again next time.

        Args:
            jobs: number of runs at once. If there are several, each is carried out by a process of its own.
            only: the name of one run, which alone is carried out; by default all are.

        Raises Interrupted after a stop signal.
        """
        problems, chosen = Problems(), [only] if only else list(self.configs)
        for each in chosen:  # all are checked before the first one trains
            with problems.collecting():
                self._configured(self.configs[each])
        problems.check()
        untangled(self.path)
        for each in chosen:
            provenance.say_changes(RunFolder(self.path / each))
        before, numbers = self._failures(), {each: number for number, each in enumerate(self.configs, 1)}
        trials = self.trials()

        def done(each: str) -> bool:
            """Whether a run has ended, or has failed in another process since this one began."""
            ended = (self.path / each / "results.json").exists() if trials is None else trials.ended(each)
            return ended or self._failures().get(each) != before.get(each)

        def work(attempt: Attempt) -> None:
            with closing(shared(self.path, {each: each for each in chosen}, done)) as mine:
                for each in mine:
                    if signals.received():
                        raise Interrupted(f"{each}: stopped by {signals.received()}")
                    say(f"run {numbers[each]} of {len(self.configs)}: {each}")
                    failure = attempt(each, self._attempt, each)
                    if failure:
                        say(f"{each} failed: {failure['error']}")
                    if is_main():
                        self._record(each, failure)

        try:
            at_once(min(jobs, len(chosen)), work)
        except Interrupted as stop:
            ended = f"{len(self.finished())} of {len(self.configs)} runs are finished"
            raise Interrupted(f"{stop}; {ended}; `sslx resume {self.path}` continues") from stop
        if is_main():
            report.written_grid(self.path, list(self.configs))
        return self.failed(chosen)

    def failed(self, names: Sequence[str]) -> list[str]:
        """A line for each of these runs that has failed and has no results since; a trial needs its score as well."""
        failures = self._failures()
        finished = {run.path.name for run in self.finished()} if self.search is None else {}
        details = f"details in {self.path / _FAILED}"
        failed = [each for each in names if each in failures and each not in finished]
        return [f"{each} failed: {failures[each]['error']}; {details}" for each in failed]

    def _attempt(self, each: str) -> Failure | None:
        """Carry out a run. Returns what failed, if the others can go on."""
        try:
            if self.search is None:
                self._run(each, self.launch)
            else:
                self._trial(each)
        except (LostError, UnknownScore):
            raise
        except Interrupted as stop:
            raise Interrupted(f"{each}: {str(stop).partition(';')[0]}") from stop
        except Exception as error:
            if os.environ.get("WORLD_SIZE", "1") != "1" and not isinstance(error, NonFiniteError):
                raise  # the other processes have not failed
            return failure_of(error)
        return None

    def _run(self, each: str, launch: Launch, options: Mapping[str, Any] = {}) -> None:
        """Begin a run, with these options beside its config, or go on with it."""
        if (self.path / each / "config.toml").exists():
            session.resume(self.path / each, launch, trust_code=self.trust_code)
        else:
            session.start(self._configured(self.configs[each], options), launch, self.path / each)

    def _trial(self, each: str) -> None:
        """Carry out a run with the options that the search chooses, unless it gives it up."""
        trials, pruned = self.trials(), False
        assert trials is not None
        options = Runtime.start(self.launch.device).lead(lambda: trials.options(each))
        self._check_options(each, options)
        try:
            self._run(each, attrs.evolve(self.launch, prune=partial(trials.prune, each)), options)
        except (Pruned, NonFiniteError) as end:  # also says something of the options
            say(f"{each}: {end}")
            pruned = True
        if is_main():
            trials.end(each, RunFolder(self.path / each).scores(), pruned)

    def _check_options(self, each: str, options: Mapping[str, Any]) -> None:
        """Raise CheckpointError if a run was begun with other options than those that the journal of a search has."""
        if not (self.path / each / "config.toml").exists():
            return
        chosen = unlayer(plain(to_dict(self._configured(self.configs[each], options))))
        found = unlayer(Run.open(self.path / each).settings)
        keys = [key for key in chosen if any(f"{key}.".startswith(f"{option}.") for option in options)]
        if others := [key for key in keys if chosen[key] != found.get(key)]:
            key = others[0]
            raise CheckpointError(
                f"{self.path / each}: {key} is {found.get(key)}, but {chosen[key]} in the journal of the search"
            )

    def _failures(self) -> dict[str, dict[str, Any]]:
        """What failed.json says of each run that failed."""
        try:
            found: dict[str, dict[str, Any]] = json.loads((self.path / _FAILED).read_text())
        except (OSError, ValueError):  # there is none, or somebody has edited it
            return {}
        return found

    def _record(self, each: str, failure: Failure | None) -> None:
        """Write that a run has failed, or that it no longer does."""
        with FileLock(self.path / f".{_FAILED}.lock"):
            failures = self._failures()
            if failure is None and each not in failures:
                return
            failures.pop(each, None)
            if failure is not None:
                failures[each] = {**failure, "time": time.time()}
            replace(self.path / _FAILED, json.dumps(failures, indent=1) + "\n")

    def _configured(self, config: Mapping[str, Any], options: Mapping[str, Any] = {}) -> RunConfig:
        found = recorded(config, layer(options), trust_code=self.trust_code)
        if self.search is not None:
            self.search.check(found)
        return found


def _trials_class() -> type[Trials]:
    """The class that needs Optuna. Raises ConfigError if it is not installed."""
    try:
        from sslx.runs.trials import Trials
    except ModuleNotFoundError as error:
        raise ConfigError(f"search: {error.name} is not installed: pip install 'sslx[search]'") from error
    return Trials


def is_grid(path: Path) -> bool:
    return (path / "grid.json").is_file()


def opened(paths: Sequence[Path | str], trust_code: bool = False, checkpoint: int | None = None) -> list[Run]:
    """Runs, and of grids those that are finished, each once. Raises ConfigError.

    Args:
        checkpoint: the step of the checkpoint whose weights the methods have; by default the last one.
    """
    runs = []
    for path in map(Path, paths):
        if not is_grid(path):
            runs.append(session.open_run(path, checkpoint=checkpoint, trust_code=trust_code))
        elif checkpoint is not None:
            raise ConfigError(f"--checkpoint: expected one run, {path} is a grid")
        elif finished := Grid.open(path, trust_code).finished():
            runs += finished
        else:
            raise ConfigError(f"{path}: none of its runs is finished; `sslx resume {path}` continues them")
    return list({run.path.resolve(): run for run in runs}.values())


def _read(path: Path) -> dict[str, Any]:
    """The content of grid.json. Raises CheckpointError if it is damaged, or names a run that is not in the folder."""
    facts: dict[str, Any] = RunFolder(path).read("grid.json")
    for name in facts["runs"]:
        if not _NAME.fullmatch(name):
            raise CheckpointError(f"{path / 'grid.json'}: damaged: {name!r} is not the name of a folder")
    return facts
