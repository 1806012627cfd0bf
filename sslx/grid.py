"""Many runs, one after another, in one folder; resumable as a whole.

grid.json     the configs of all runs by the names of their folders, and how they are carried out
failed.json   what became of the runs that failed, if any did
NAME/         a run
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from sslx import session
from sslx.core import signals
from sslx.core.config import RunConfig, configure
from sslx.core.errors import ConfigError, Interrupted, NonFiniteError
from sslx.core.options import to_dict
from sslx.core.records import RunFolder
from sslx.core.toml import read
from sslx.session import Launch, Run, label

Choice = Mapping[str, Any]  # what a run varies: the keys that `--set` takes, also seed and method, and their values


def combinations(axes: Mapping[str, Sequence[Any]]) -> Iterator[Choice]:
    """Every combination of one value of each key; the last key varies fastest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def read_sweep(path: Path) -> tuple[dict[str, Any], list[Choice]]:
    """The base config of a sweep file, and what each of its runs has beside it.

    Each table of `[[runs]]` is combined with every combination of the lists in `[grid]`, and in a `grid` of its own.
    """
    base = read(path)
    problems: list[str] = []

    def axes(table: Any, where: str) -> dict[str, Sequence[Any]]:
        found = _flat(table) if isinstance(table, Mapping) else {"": table}
        for key, values in found.items():
            if not isinstance(values, list) or not values:
                problems.append(f"{path}: {f'{where}.{key}'.rstrip('.')}: expected a list of values, got {values!r}")
        return found

    common, entries = axes(base.pop("grid", {}), "grid"), base.pop("runs", [{}])
    if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
        raise ConfigError(f"{path}: runs: expected tables, each beginning with [[runs]]")
    parts = [(axes(entry.pop("grid", {}), "runs.grid"), _flat(entry)) for entry in entries]
    if problems:
        raise ConfigError(problems)
    return base, [{**fixed, **choice} for own, fixed in parts for choice in combinations({**own, **common})]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables in tables by dotted keys: {"prior": {"use": "mixture", "scale": 2}} gives `prior` and `prior.scale`."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        dotted = re.sub(r"^method\.(?!use$)|(?<=.)\.use$", "", prefix + key)
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {dotted: value}
    return found


def names(choices: Sequence[Choice], configs: Sequence[RunConfig]) -> list[str]:
    """A folder for each run: its method and all that varies, such as `simvae-prior.variance=0.1-seed=2`."""
    found: list[str] = []
    for choice, config in zip(choices, configs, strict=True):
        parts = [f"{key}={value}" for key, value in choice.items() if key != "method"]
        name = re.sub(r"[^A-Za-z0-9._=-]+", "-", "-".join([label(config.method), *parts]))
        alike = sum(re.sub(r"-again\d+$", "", other) == name for other in found)
        found.append(f"{name}-again{alike}" if alike else name)  # two files may have classes of one name
    return found


@attrs.frozen
class Grid:
    """Runs by name, in their order, and their folder."""

    path: Path
    configs: Mapping[str, RunConfig]
    launch: Launch
    restarts: bool = False  # whether runs that differ in the seed alone are attempts, of which the best counts

    @classmethod
    def make(cls, path: Path | None, configs: Mapping[str, RunConfig], launch: Launch, restarts: bool = False) -> Grid:
        """The grid of these runs, not written yet. Without a path it is below `runs`, where these runs always are.

        Raises ConfigError if two runs are the same.
        """
        texts = {name: json.dumps(to_dict(config), sort_keys=True) for name, config in configs.items()}
        if twice := [name for name, text in texts.items() if list(texts.values()).count(text) > 1]:
            raise ConfigError(f"the same run more than once: {', '.join(twice)}")
        key = hashlib.sha256("".join(sorted(texts.values())).encode()).hexdigest()[:8]
        return cls(path or Path("runs") / f"grid-{key}", configs, launch, restarts)

    def create(self) -> None:
        """Write grid.json, unless an earlier command did. Raises ConfigError if there is something else."""
        plain = {name: to_dict(config) for name, config in self.configs.items()}
        if is_grid(self.path):
            if json.loads(json.dumps(plain)) != _read(self.path)["runs"]:
                raise ConfigError(f"out: {self.path} holds other runs; `sslx resume {self.path}` goes on with those")
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ConfigError(f"out: {self.path} exists and is not empty")
        else:
            try:
                facts = {**attrs.asdict(self.launch), "data_dir": str(self.launch.data_dir)}
                self.path.mkdir(parents=True, exist_ok=True)
                RunFolder(self.path).write("grid.json", {"runs": plain, "launch": facts, "restarts": self.restarts})
            except OSError as error:
                raise ConfigError(f"out: {self.path} cannot be written ({error.strerror})") from error

    @classmethod
    def open(cls, path: Path) -> Grid:
        """The grid that an earlier command made at `path`."""
        facts = _read(path)
        launch = Launch(**{**facts["launch"], "data_dir": Path(facts["launch"]["data_dir"])})
        configs = {each: configure(config) for each, config in facts["runs"].items()}
        return cls(path, configs, launch, facts["restarts"])

    def finished(self) -> list[Run]:
        folders = ((RunFolder(self.path / each), config) for each, config in self.configs.items())
        return [Run(folder, config) for folder, config in folders if folder.finished]

    def ranking(self) -> list[list[Run]]:
        """Finished runs that differ in the seed alone together, the one with the smallest label-free score first."""
        groups: dict[str, list[Run]] = {}
        for run in self.finished():
            config = {name: value for name, value in to_dict(run.config).items() if name != "seed"}
            groups.setdefault(json.dumps(config), []).append(run)
        return [sorted(runs, key=lambda run: run.training.get("score", math.inf)) for runs in groups.values()]

    def carry_out(self) -> list[str]:
        """Do what is not done yet. Returns a line for each run that failed; it is tried again the next time.

        Raises Interrupted after a stop signal.
        """
        main, alone = os.environ.get("RANK", "0") == "0", os.environ.get("WORLD_SIZE", "1") == "1"
        folder = RunFolder(self.path)
        if main:
            folder.lock()
        failed: dict[str, dict[str, str]] = {}
        try:
            for number, (each, config) in enumerate(self.configs.items(), 1):
                path = self.path / each
                if (path / "results.json").exists():
                    continue
                try:
                    if signals.received():
                        raise Interrupted(f"stopped by {signals.received()}")
                    if main:
                        print(f"run {number} of {len(self.configs)}: {each}", file=sys.stderr)
                    if (path / "config.toml").exists():
                        session.resume(path, self.launch)
                    else:
                        # A copy, or the loader of every run would keep its images until the last one is done.
                        session.start(copy.deepcopy(config), self.launch, path)
                except Interrupted as stop:
                    done = f"{len(self.finished())} of {len(self.configs)} runs are finished"
                    reason = str(stop).partition(";")[0]
                    raise Interrupted(f"{each}: {reason}; {done}; `sslx resume {self.path}` goes on") from stop
                except Exception as error:
                    if not alone and not isinstance(error, NonFiniteError):
                        raise  # the other processes do not know of it
                    failed[each] = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
                    if main:
                        print(f"{each} failed: {error}", file=sys.stderr)
                if main and (failed or (self.path / "failed.json").exists()):
                    folder.write("failed.json", failed)
        finally:
            if main:
                folder.unlock()
        return [
            f"{each} failed: {facts['error']}; details in {self.path / 'failed.json'}" for each, facts in failed.items()
        ]


def is_grid(path: Path) -> bool:
    return (path / "grid.json").is_file()


def _read(path: Path) -> dict[str, Any]:
    return dict(RunFolder(path).read("grid.json"))
