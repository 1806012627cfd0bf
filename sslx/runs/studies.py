"""Studies carried out: the runs of a table of a paper, shared between tables, and the scores that fill its cells.

A folder holds the runs of all studies, each under its method and a hash of its config without evaluators. So a table
finds the runs of another one, and the same command goes on after whatever ended it. Several processes may carry out
studies in one folder at once; each run is the work of one of them.
"""

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sslx.core import signals
from sslx.core.console import is_main, say
from sslx.core.dotted import flatten, merge
from sslx.core.errors import ConfigError, Interrupted, LockedError, LostError, Problems, nearest
from sslx.core.files import digest, plain
from sslx.core.options import Component, label, make, options_of, reference, to_dict
from sslx.core.randomness import borrowed
from sslx.core.study import Block, Column, Design, Line, Study, Value
from sslx.core.toml import read as read_toml
from sslx.core.training.config import RunConfig, configure, layer
from sslx.core.training.run import Launch, Run, build
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.runs import session
from sslx.runs.data import Halves, chosen, facts, load_data
from sslx.runs.jobs import Attempt, Failure, at_once, failure_of
from sslx.runs.protocols import protocol_table
from sslx.runs.workers import shared


class Task(NamedTuple):
    """One run of a study."""

    block: Block
    row: Line
    config: RunConfig
    name: str  # of its folder


@attrs.frozen
class Cell:
    """What stands at a place of a table: the scores of each seed, and what the paper prints."""

    block: Block
    row: Line
    column: Column
    values: Sequence[float]  # of finished runs
    centre: float  # nan without values
    spread: float  # nan for fewer than two
    printed: Value | None
    reason: str = ""  # why there are no values; of a derived row, the rows that it compares


@attrs.frozen
class Reproduction:
    """A study at one budget, with the folder of its runs."""

    name: str
    design: Design
    budget: str
    folder: Path
    launch: Launch
    only: Sequence[str] = ()  # names of rows; empty: all

    @classmethod
    def of(
        cls, study: str | Study, budget: str, folder: Path, launch: Launch | None = None, only: Sequence[str] = ()
    ) -> "Reproduction":
        """A study by its name, its file or as an object. Raises ConfigError if it has no such budget or row."""
        made: Study = make(Study, study, "study")
        design = made.design()
        if budget not in design.budgets:
            expected = ", ".join(design.budgets)
            raise ConfigError(f"--budget: {label(made)} has no budget {budget!r}, expected one of {expected}")
        known = [row.name for row in design.rows]
        if unknown := [name for name in only if name not in known]:
            raise ConfigError(f"--only: {label(made)} has no row {unknown[0]!r}{nearest(unknown[0], known)}")
        name = made.path.stem if label(made) == "file" else label(made)
        return cls(name, design, budget, folder, launch or Launch(), only)

    def places(self) -> list[tuple[Block, Line]]:
        """The pairs of a block and a row that are filled."""
        return [
            (block, row) for block, row in self.design.places(self.budget) if not self.only or row.name in self.only
        ]

    def absent(self, block: Block, row: Line) -> str:
        """Why this place cannot be filled here; empty if it can."""
        if reason := self.design.missing(block, row):
            return reason
        data = self.design.data(block, row, self.budget, self.launch.data_dir)
        return "" if data is None or data.exists() else f"needs data: there is no {data}"

    @cached_property
    def tasks(self) -> list[Task]:
        """The runs that this machine can carry out. Raises ConfigError with one line for each wrong option."""
        seeds = self.design.budgets[self.budget].seeds or self.design.seeds
        problems, found = Problems(), list[Task]()
        for block, row in self.places():
            if row.gain or self.absent(block, row):
                continue
            for seed in range(seeds):
                with problems.collecting():
                    config = self.config(block, row, seed)
                    found.append(Task(block, row, config, _name(self.folder, config)))
        problems.check()
        return found

    def config(self, block: Block, row: Line, seed: int = 0) -> RunConfig:
        """The complete config of a run, with the evaluators that the columns need."""
        given = self.given(block, row, seed)
        try:
            return configure(given, evaluators=given["evaluators"])
        except ConfigError as error:
            where = f"{self.name}, {row.name} of {block.name}"
            raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from error

    def given(self, block: Block, row: Line, seed: int = 0) -> dict[str, Any]:
        """What the study states of a run, as a layer of a config."""
        design = self.design
        options = layer({"seed": seed, **design.options_of(block, row, self.budget)})
        known = {**(protocol_table(design.protocol)[1] if design.protocol else {}), **design.evaluators}
        places = [column for each in design.blocks for column in design.columns_of(each, row)]  # blocks may share a run
        wanted = dict.fromkeys(column.evaluator for column in places)
        own = options.pop("evaluators", {})
        return {**options, "evaluators": merge({name: known.get(name, {}) for name in wanted}, own)}

    def carry_out(self, jobs: int = 1) -> list[str]:
        """Train and score whatever is missing. Returns a line for each run that failed; it is tried again next time.

        Args:
            jobs: number of runs at once. If there are several, each is carried out by a process of its own.

        Raises Interrupted after a stop signal.
        """
        # Places with the same training but other images to score are one run with two tasks.
        tasks = {(task.name, digest(plain(to_dict(task.config)))): task for task in self.tasks}
        problems = dict[tuple[str, str], str]()

        def done(key: tuple[str, str]) -> bool:
            return key in problems or _is_done(self.folder / key[0], tasks[key].config)

        def work(attempt: Attempt) -> None:
            with closing(shared(self.folder / "locks", {key: key[0] for key in tasks}, done)) as mine:
                for key in mine:
                    task, name, seed = tasks[key], key[0], tasks[key].config.seed
                    if signals.received():
                        raise Interrupted(f"stopped by {signals.received()}")
                    say(f"{self.name}: {task.row.name} of {task.block.name}, seed {seed}")
                    if failure := attempt(name, self._attempt, task.block, task.row, seed, name):
                        problems[key] = f"{name} failed: {failure['error']}"
                        say(problems[key])

        try:
            at_once(min(jobs, len(tasks)), work)
        except Interrupted as stop:
            raise Interrupted(f"{str(stop).partition(';')[0]}; the same command continues") from stop
        return list(problems.values())

    def _attempt(self, block: Block, row: Line, seed: int, name: str) -> Failure | None:
        """Train and score a run. Returns what failed, if the others can go on."""
        path, config = self.folder / name, self.config(block, row, seed)
        try:
            if not (path / "config.toml").exists():
                session.start(_own(config), self.launch, path)
            elif not (path / "results.json").exists():
                session.resume(path, self.launch)
            if is_main() and (missing := _missing(path, config)):
                other = None if config.eval_dataset is None else to_dict(config.eval_dataset)
                session.evaluate(path, missing, self.launch, dataset=other)
        except (LostError, LockedError, Interrupted):
            raise
        except Exception as error:
            return failure_of(error)
        return None

    def cells(self) -> list[Cell]:
        """Every cell of the table at this budget, filled as far as its runs are finished."""
        runs: dict[tuple[str, str], list[Task]] = {}
        for task in self.tasks:
            runs.setdefault((task.block.name, task.row.name), []).append(task)
        found = []
        for block, row in self.places():
            tasks = runs.get((block.name, row.name), [])
            reason = self.absent(block, row)
            printed = block.printed.get(row.name, [None] * len(self.design.columns))
            for column, own, value in zip(
                self.design.columns, self.design.columns_of(block, row), printed, strict=True
            ):
                values, why = self._values(tasks, own)
                centre, spread = summary(values, self.design.centre, self.design.spread)
                found.append(Cell(block, row, column, values, centre, spread, value, reason or why))
        return [self._gain(cell, found) if cell.row.gain else cell for cell in found]

    def _gain(self, cell: Cell, cells: Sequence[Cell]) -> Cell:
        """The cell of a derived row: the best of some rows minus the best of others."""
        best, names = list[float](), list[str]()
        for rows in cell.row.gain:
            scores = [
                (each.centre, each.row.name)
                for each in cells
                if (each.block, each.column) == (cell.block, cell.column) and each.row.name in rows and each.values
            ]
            if not scores:
                return attrs.evolve(cell, reason="none of its rows has a score")
            centre, name = max(scores)
            best.append(centre)
            names.append(name)
        return attrs.evolve(cell, centre=best[0] - best[1], reason=f"{names[0]} minus {names[1]}")

    def _values(self, tasks: Sequence[Task], column: Column) -> tuple[list[float], str]:
        """The scores of a column in finished runs, and why there are none."""
        values, why = list[float](), "no run yet"
        score = column.score.partition(".")[2]
        for task in tasks:
            path = self.folder / task.name
            result = _results(path, task.config).get(column.evaluator)
            if result is None or not (path / "results.json").exists():
                continue
            if score in result.get("scores", {}):
                values.append(column.scale * result["scores"][score])
            else:
                why = result.get("skipped") or result.get("failed") or f"{column.evaluator} has no score {score}"
        return values, "" if values else why

    def floors(self, which: str) -> dict[tuple[str, str], tuple[float, float]]:
        """Centre and spread of what `pixels` or `pca` reach, by the names of block and column.

        They are those of the first row that has them, as components are as many as a row's representation is wide.
        """
        found: dict[tuple[str, str], dict[int, float]] = {}
        for task in self.tasks:
            results = _results(self.folder / task.name, task.config, which)
            for column in self.design.columns_of(task.block, task.row):
                scores = results.get(column.evaluator, {}).get("scores", {})
                if (value := scores.get(column.score.partition(".")[2])) is not None:
                    place = found.setdefault((task.block.name, column.name), {})
                    place.setdefault(task.config.seed, column.scale * value)
        design = self.design
        return {key: summary(list(each.values()), design.centre, design.spread) for key, each in found.items()}

    def runs(self, block: Block, row: Line) -> list[Run]:
        """The finished runs of a place, one for each seed."""
        paths = [self.folder / task.name for task in self.tasks if (task.block, task.row) == (block, row)]
        return [Run.open(path) for path in paths if (path / "results.json").exists()]

    def changes(self, block: Block, row: Line) -> dict[str, tuple[Any, Any]]:
        """The options in which this budget differs from the paper's, with both values."""
        if "paper" not in self.design.budgets or self.budget == "paper":
            return {}
        ours = self.design.options_of(block, row, self.budget)
        paper = self.design.options_of(block, row, "paper")
        return {key: (ours.get(key), paper.get(key)) for key in {**paper, **ours} if ours.get(key) != paper.get(key)}

    def cost(self) -> Iterator[tuple[Task, float, float]]:
        """FLOPs and seconds of the training of each run that is not finished, from one step of each on this device."""
        known: dict[tuple[str, str], tuple[float, float]] = {}
        halves: dict[str, Halves] = {}
        runtime = Runtime.start(self.launch.device)
        for task in self.tasks:
            if (self.folder / task.name / "results.json").exists():
                continue
            place = task.block.name, task.row.name
            if place not in known:
                key = digest(plain(to_dict(task.config.dataset)))
                if key not in halves:
                    halves = {
                        key: load_data(task.config.dataset, self.launch, runtime)
                    }  # one at a time, as it is large
                known[place] = _cost(task.config, chosen(task.config, halves[key]), runtime.device)
            yield task, *known[place]


def recipe(name: str) -> dict[str, Any]:
    """The config of a study of one row, at the budget of the paper. Raises ConfigError if it has several rows."""
    study = Reproduction.of(name, "paper", Path())
    if len(places := study.places()) != 1:
        raise ConfigError(
            f"--recipe: {name} has {len(places)} runs, expected a study of one; `sslx reproduce {name}` makes its table"
        )
    return study.given(*places[0])


def summary(values: Sequence[float], centre: str, spread: str) -> tuple[float, float]:
    """Mean or median, and the standard error of the mean or the standard deviation, as a paper prints them."""
    if not values:
        return math.nan, math.nan
    middle = statistics.median(values) if centre == "median" else statistics.fmean(values)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return middle, math.nan
    deviation = statistics.stdev(values)
    return middle, deviation / math.sqrt(len(values)) if spread == "error" else deviation


def _name(folder: Path, config: RunConfig) -> str:
    """The folder of a run: its method and a hash of the options that differ from what their classes declare.

    So a new option leaves names as they are. A run of this name that was trained with other values, because a default
    has changed since, is left alone, and the new one has the next name.
    """
    wanted = flatten(_trained(plain(to_dict(config))))
    name, number = f"{label(config.method)}-{digest(_trained(plain(_differences(config))))[:12]}", 1
    while True:
        path = folder / (name if number == 1 else f"{name}-{number}")
        found = flatten(_trained(read_toml(path / "config.toml"))) if (path / "config.toml").exists() else {}
        if found.items() <= wanted.items():
            return path.name
        number += 1


def _trained(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that the training depends on."""
    return {key: value for key, value in config.items() if key not in ("evaluators", "eval_dataset")}


def _differences(component: Component) -> dict[str, Any]:
    """The options of a component whose values differ from those that its class declares."""
    found: dict[str, Any] = {"use": reference(component)} if component.kind else {}
    for name, option in options_of(type(component)).items():
        value = getattr(component, name)
        if isinstance(value, Component):
            part = _differences(value)
            if part != {"use": option.default}:
                found[name] = part
        elif value != option.default:
            found[name] = to_dict(component)[name]
    return found


def _results(path: Path, config: RunConfig, which: str = "trained") -> Mapping[str, Any]:
    """The results of a run on the dataset on which a study scores it, by evaluator."""
    report = RunFolder(path).read("results.json") or {}
    dataset = plain(to_dict(config.eval_dataset or config.dataset))
    for each in (report, *report.get("others", [])):
        if each.get("data", {}).get("dataset") == dataset:
            return each.get(which, {})
    return {}


def _own(config: RunConfig) -> RunConfig:
    """The config with which a run begins. It scores its own images first; others are a later evaluation of it.

    So the run is the same whichever study begins it.
    """
    if config.eval_dataset is None:
        return config
    during = config.train.evaluate
    needed = during.evaluators if during.every is not None else ()
    table = {name: to_dict(part) for name, part in config.evaluators.items() if name in needed}
    return configure({**to_dict(config), "eval_dataset": None}, evaluators=table, recommend=False)


def _missing(path: Path, config: RunConfig) -> dict[str, Any]:
    """The evaluators, as tables, whose results a run does not have with these options."""
    found = _results(path, config)
    wanted = {name: plain(to_dict(part)) for name, part in config.evaluators.items()}
    return {
        name: options
        for name, options in wanted.items()
        if found.get(name, {}).get("options") != options or "failed" in found[name]
    }


def _is_done(path: Path, config: RunConfig) -> bool:
    return (path / "results.json").exists() and not _missing(path, config)


def _cost(config: RunConfig, data: Halves, device: torch.device) -> tuple[float, float]:
    """FLOPs and seconds of a training, from one step: forward and backward."""
    train, N = data[0], config.train.batch_size
    steps = config.train.epochs * (len(train) // N)
    if not steps:
        return 0.0, 0.0
    with borrowed():
        method = build(config, **facts(train)).to(device).train()
        if not any(weight.requires_grad for weight in method.parameters()):
            return 0.0, 0.0
        method.begin(train)
        index = torch.arange(N)
        sizes = None if train.sizes is None else train.sizes[index]
        views = config.views(train.images[index].to(device), index, seed=0, epoch=0, sizes=sizes)

        def step() -> None:
            method(views).total.backward()

        with _Flops() as counted:
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return steps * float(counted.total), steps * (time.perf_counter() - begin)


class _Flops(TorchDispatchMode):
    """Counts the FLOPs of everything that runs inside, by torch's formulas. Torch's own counter refuses inner grads."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result
