"""Many runs, one after another, in one folder that is resumed as a whole.

grid.json     the configs of all runs by the names of their folders, and how they are carried out
failed.json   errors of the runs that failed, if any did
NAME/         a run
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from sslx.core import signals
from sslx.core.console import is_main, say
from sslx.core.errors import CheckpointError, ConfigError, Interrupted, LostError, NonFiniteError, Problems
from sslx.core.files import plain, replace, untangled
from sslx.core.options import to_dict
from sslx.core.training.config import RunConfig
from sslx.core.training.run import Launch, Run, recorded
from sslx.core.training.run_folder import RunFolder
from sslx.outputs import report
from sslx.runs import session

_NAME = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")  # of a run's folder


@attrs.frozen
class Grid:
    """Runs by name, in their order, and their folder."""

    path: Path
    configs: Mapping[str, Mapping[str, Any]]  # as plain values
    launch: Launch
    restarts: bool = False  # whether runs that differ in the seed alone are attempts, of which the best counts
    trust_code: bool = False  # whether files of code that grid.json names are executed

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

    def create(self) -> None:
        """Write grid.json, unless an earlier command did. Raises ConfigError if there is something else."""
        if is_grid(self.path):
            if self.configs != _read(self.path)["runs"]:
                raise ConfigError(f"out: {self.path} holds other runs; `sslx resume {self.path}` continues those")
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ConfigError(f"out: {self.path} exists and is not empty")
        else:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                untangled(self.path)
                facts = {"runs": self.configs, "launch": self.launch.record(), "restarts": self.restarts}
                RunFolder(self.path).write("grid.json", facts)
            except OSError as error:
                raise ConfigError(f"out: {self.path} cannot be written ({error.strerror})") from error

    @classmethod
    def open(cls, path: Path, trust_code: bool = False) -> Grid:
        """The grid that an earlier command made at `path`."""
        facts = _read(path)
        return cls(path, facts["runs"], Launch.recorded(facts["launch"]), facts["restarts"], trust_code)

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

    def carry_out(self) -> list[str]:
        """Carry out the runs that are not finished. Returns a line for each that failed; it is tried again next time.

        Raises Interrupted after a stop signal.
        """
        problems = Problems()
        for config in self.configs.values():  # all are checked before the first one trains
            with problems.collecting():
                self._configured(config)
        problems.check()
        main, alone = is_main(), os.environ.get("WORLD_SIZE", "1") == "1"
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
                    say(f"run {number} of {len(self.configs)}: {each}")
                    if (path / "config.toml").exists():
                        session.resume(path, self.launch, trust_code=self.trust_code)
                    else:
                        session.start(self._configured(config), self.launch, path)
                except LostError:
                    raise
                except Interrupted as stop:
                    done = f"{len(self.finished())} of {len(self.configs)} runs are finished"
                    reason = str(stop).partition(";")[0]
                    raise Interrupted(f"{each}: {reason}; {done}; `sslx resume {self.path}` continues") from stop
                except Exception as error:
                    if not alone and not isinstance(error, NonFiniteError):
                        raise  # the other processes have not failed
                    failed[each] = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
                    say(f"{each} failed: {error}")
                if main and (failed or (self.path / "failed.json").exists()):
                    replace(self.path / "failed.json", json.dumps(failed, indent=1) + "\n")
            if main:
                report.written_grid(self.path, list(self.configs))
        finally:
            if main:
                folder.unlock()
        return [
            f"{each} failed: {facts['error']}; details in {self.path / 'failed.json'}" for each, facts in failed.items()
        ]

    def _configured(self, config: Mapping[str, Any]) -> RunConfig:
        return recorded(config, trust_code=self.trust_code)


def is_grid(path: Path) -> bool:
    return (path / "grid.json").is_file()


def opened(paths: Sequence[Path | str], trust_code: bool = False, checkpoint: int | None = None) -> list[Run]:
    """Runs, and of grids those that are finished. Raises ConfigError.

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
    return runs


def _read(path: Path) -> dict[str, Any]:
    """The content of grid.json. Raises CheckpointError if it is damaged, or names a run that is not in the folder."""
    facts: dict[str, Any] = RunFolder(path).read("grid.json")
    for name in facts["runs"]:
        if not _NAME.fullmatch(name):
            raise CheckpointError(f"{path / 'grid.json'}: damaged: {name!r} is not the name of a folder")
    return facts
