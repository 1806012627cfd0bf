"""The trials of a search, which Optuna chooses and compares.

search.journal   Optuna's study, in the folder of the grid: a JSON line for each change, with a hash
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from sslx.core.errors import CheckpointError, SslxError, nearest
from sslx.core.files import digest, misfit, plain
from sslx.core.randomness import Use, seed_of
from sslx.core.training.config import RunConfig
from sslx.core.training.during import Scored, decisive
from sslx.outputs.formats import as_table
from sslx.runs.search import Choices, Range, Search, UnknownScore

JOURNAL, _STUDY, _RUN = "search.journal", "search", "run"
_NAME = re.compile(r"trial-\d+")  # of a run
optuna.logging.set_verbosity(optuna.logging.ERROR)


class Trial(NamedTuple):
    """A run that a search has begun."""

    name: str
    options: Mapping[str, Any]
    state: str  # "finished", "pruned" or "not finished"
    epochs: int  # until its last evaluation
    score: float  # of this evaluation, nan if there is none


class Trials:
    """The study of a search. Several processes may have it at the same time, each run one of them.

    The options of a trial are a function of the seed, its number and the trials that have ended, and whether it is
    pruned one of its scores and of the trials that are finished. So a search that one process carries out after the
    other ends the same, whenever it was killed.
    """

    def __init__(self, folder: Path, search: Search, names: Sequence[str], config: RunConfig) -> None:
        """Open the study, or begin it. Raises CheckpointError if it is damaged, or that of another search.

        Args:
            names: of the runs, in their order.
            config: that of all runs, without the options that are searched.
        """
        self.names = names
        self.path, self.search, self.every = folder / JOURNAL, search, config.train.evaluate.every
        self.evaluator = config.train.evaluate.evaluator_of(search.options.score)
        self.score, self.largest = decisive(search.options.score, search.options.prefer, config)
        self.distributions = {key: _distribution(each) for key, each in search.space.items()}
        direction = StudyDirection.MAXIMIZE if self.largest else StudyDirection.MINIMIZE
        with self._reading():
            self.storage = JournalStorage(Journal(self.path))
            try:
                self.study = optuna.load_study(study_name=_STUDY, storage=self.storage)
            except KeyError:
                self.study = optuna.create_study(
                    study_name=_STUDY, storage=self.storage, direction=direction, load_if_exists=True
                )
            if self.study.direction != direction:
                raise CheckpointError(f"{self.path}: damaged: it is of another search")
        self._trials()

    def options(self, name: str) -> dict[str, Any]:
        """The searched options of a run by their keys. They are chosen and recorded when it begins."""
        found = self._trials().get(name)
        return self._values(found.params if found is not None else self._suggest(name))

    def prune(self, name: str, scores: Scored) -> bool:
        """Whether a run that has these scores is given up. They are recorded.

        Raises UnknownScore if the evaluator of the score has others only.
        """
        last = scores[-1][1]
        own = [each for each in last if each.partition("/")[2].startswith(str(self.evaluator))]
        if own and self.score not in last:
            known = [each.partition("/")[2] for each in own]
            wanted = self.search.options.score
            raise UnknownScore(f"search.score: there is no {wanted!r} during training{nearest(wanted, known)}")
        self._report(name, scores)
        with self._reading():
            return self.search.options.prune and optuna.pruners.MedianPruner().prune(self.study, self._trials()[name])

    def end(self, name: str, scores: Scored, pruned: bool) -> None:
        """Record how a run has ended. Raises SslxError if it has no score."""
        found = self._report(name, scores)
        if self.ended(name):
            return
        if not pruned and not found:
            raise SslxError(f"it has no score {self.score}, which the search needs")
        with self._reading():
            number = self._trials()[name].number
            if pruned:
                self.study.tell(number, state=TrialState.PRUNED)
            else:
                self.study.tell(number, found[max(found)])

    def ended(self, name: str) -> bool:
        found = self._trials().get(name)
        return found is not None and found.state.is_finished()

    def ranking(self) -> list[Trial]:
        """The trials so far, the best first: those that are finished by their score, then the others."""
        states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned"}
        rows = []
        for name, trial in self._trials().items():
            epochs = trial.last_step or 0
            score = trial.intermediate_values.get(epochs, math.nan)
            rows.append(Trial(name, self._values(trial.params), states.get(trial.state, "not finished"), epochs, score))

        def place(row: Trial) -> tuple[bool, int, float]:
            worse = math.inf if math.isnan(row.score) else -row.score if self.largest else row.score
            return row.state != "finished", 0 if row.state == "finished" else -row.epochs, worse

        return sorted(rows, key=place)

    def lines(self) -> list[str]:
        """The trials as a table, and how to repeat the best one."""
        rows, folder = self.ranking(), self.path.parent
        head = ["trial", self.score, "epochs", "state", *self.search.space]
        cells = [
            [row.name, f"{row.score:.4f}", str(row.epochs), row.state, *map(_text, row.options.values())]
            for row in rows
        ]
        finished, pruned = (sum(row.state == state for row in rows) for state in ("finished", "pruned"))
        found = [
            *as_table([head, *cells], "simple").splitlines(),
            f"{folder}: {finished} of {self.search.options.trials} trials are finished, {pruned} were pruned",
        ]
        if finished:
            best = rows[0]
            options = ", ".join(f"{key}={_text(value)}" for key, value in best.options.items())
            found += [
                f"best: {best.name}, {self.score} {best.score:.4f}: {options}",
                f"`sslx run --config {folder / best.name} --out NEW` repeats it",
                f"`sslx compare {folder}` compares the finished trials on test images, which the search has not seen",
            ]
        return found

    # --- Optuna -------------------------------------------------------------------------------------------------------

    def _suggest(self, name: str) -> dict[str, Any]:
        """Choose the options of a run in a copy of the study, so that they can be recorded all at once."""
        number = self.names.index(name)
        seed = seed_of(Use.SEARCH, self.search.options.seed, number) % (1 << 32)
        sampler: BaseSampler = RandomSampler(seed) if self.search.options.by == "random" else TPESampler(seed=seed)
        ended = [trial for _, trial in sorted(self._trials().items()) if trial.state.is_finished()]
        with self._reading():
            copy = optuna.create_study(sampler=sampler, direction=self.study.direction)
            copy.add_trials(ended)
            params = copy.ask(self.distributions).params
            begun = create_trial(
                state=TrialState.RUNNING, params=params, distributions=self.distributions, user_attrs={_RUN: name}
            )
            self.study.add_trial(begun)
        return params

    def _report(self, name: str, scores: Scored) -> dict[int, float]:
        """Record the scores of a run by the number of epochs before them."""
        assert self.every is not None
        values = {k * self.every: each.get(self.score, math.nan) for k, (_, each) in enumerate(scores, 1)}
        found = {epochs: value for epochs, value in values.items() if not math.isnan(value)}
        trial = self._trials()[name]
        for epochs, value in found.items():
            if trial.intermediate_values.get(epochs) != value and not trial.state.is_finished():
                with self._reading():
                    self.storage.set_trial_intermediate_value(trial._trial_id, epochs, value)
        return found

    def _trials(self) -> dict[str, FrozenTrial]:
        """The trials by the names of their runs. Raises CheckpointError if they are not of this search."""
        with self._reading():
            found = {str(trial.user_attrs[_RUN]): trial for trial in self.study.get_trials(deepcopy=False)}
            for trial in found.values():  # raises an error unless the options are in the space
                create_trial(state=TrialState.RUNNING, params=trial.params, distributions=self.distributions)
                if said := misfit([*trial.intermediate_values.values(), *(trial.values or [])], [float]):
                    raise CheckpointError(f"{self.path}: damaged: {said}")
            if not all(map(_NAME.fullmatch, found)):  # another command may have added trials to these
                raise CheckpointError(f"{self.path}: damaged: it is of another search")
        return found

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Options as they are in the space, from what Optuna has chosen."""
        values = {}
        for key, each in self.search.space.items():
            values[key] = params[key] if isinstance(each, Range) else each.values[each.texts().index(params[key])]
        return values

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say in one line what is wrong with the journal."""
        try:
            yield
        except (SslxError, OSError):
            raise
        except Exception as error:  # Optuna checks little of what it reads
            reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
            raise CheckpointError(f"{self.path}: damaged: {reason}") from error


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _distribution(values: Range | Choices) -> BaseDistribution:
    if isinstance(values, Choices):
        return CategoricalDistribution(values.texts())
    if values.integers:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


class Journal(BaseJournalBackend):
    """A file with a line of JSON for each change, as Optuna's own, each with its hash.

    It is locked by the system, which frees it when a process is killed, and a line that was cut short does not count.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, FileLock(path.with_name(f".{path.name}.lock"))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        for number, line in enumerate(lines[log_number_from:], log_number_from + 1):
            try:
                log = json.loads(line)
                whole = log.pop("sha256") == digest(log)
            except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
                whole = False
            if not whole:
                raise CheckpointError(f"{self.path}: line {number} is damaged")
            yield log

    def append_logs(self, logs: Sequence[Mapping[str, Any]]) -> None:
        lines = [json.dumps({**log, "sha256": digest(plain(log))}) + "\n" for log in logs]
        with self.lock, open(self.path, "a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
