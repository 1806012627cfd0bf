"""The folder of a run: its config, what it ran on, its metrics, and the lock that keeps others out.

config.toml     every option; `sslx run --config` repeats the run
run.json        versions, components, machine, git
metrics.jsonl   a record each `log_every` steps, and with the scores of each evaluation during training
checkpoints/    step-N/
evaluation.json scores so far, while the run is evaluated
results.json    scores of the evaluators, with their protocols; its presence means that the run is finished
*.png           pictures: reconstructions, samples, views, and for points the plane
report.html     a page that shows the run, while it trains as well
report/         what the page shows of the trained method: a map of test images, and thumbnails
training.json   times, and the label-free diagnosis of the training
export/         weights of the encoder as safetensors, with a config
results-N.json  earlier results
damaged-*       what was damaged, kept for inspection
bad-images.txt  the files that were left out of the dataset, if any
crash/          the step at which a loss was not finite
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sslx.core.errors import CheckpointError, ConfigError, LockedError
from sslx.core.files import digest, misfit, read, replace, sealed, untangled
from sslx.core.toml import dumps, read as read_toml
from sslx.core.training.config import unlayer

_PACKAGES = ("sslx", "torch", "torchvision", "timm", "numpy", "scikit-learn", "faiss-gpu", "faiss-cpu")
_LAUNCH = {"device?": str, "devices?": int, "data_dir?": str, "offline?": bool, "progress?": bool, "trackers?": [str]}
_DATA = {"image_shape": [int], "samples": int, "arity?": int}
_COMPONENT = {"kind": str, "name": str, "distribution?": str, "version?": str, "sha256?": str}
#: The result of an evaluator; `of` has the names and the widths of the representations that were scored.
RESULT: dict[str, Any] = {
    "options?": dict,
    "scores?": {str: float},
    "summary?": str,
    "skipped?": str,
    "failed?": str,
    "other_data?": str,
    "of?": {str: int},
}
_RESULTS = {
    "trained": {str: RESULT},
    "untrained": {str: RESULT},
    "pixels?": {str: RESULT},
    "pca?": {str: RESULT},
    "data?": {"dataset": {"use": str}, "training": int, "test": int, "sha256": str},
}
#: The shape of each JSON file of a run or a grid, as `misfit` takes it.
_SHAPES: dict[str, dict[str, Any]] = {
    "run.json": {
        "started?": str,
        "versions?": {str: str},
        "machine?": dict,
        "command?": list,
        "git?": object,
        "components?": [_COMPONENT],
        "data": _DATA,
        "launch?": _LAUNCH,
        "config?": dict,
        "fingerprint?": {str: dict},
        "weights?": dict,
        "changes?": [{"step": int, "options": dict, "before": str}],
    },
    "results.json": {**_RESULTS, "others?": [_RESULTS]},
    "evaluation.json": {"step": int, "other_data": str, "dataset?": dict, **_RESULTS},
    "training.json": {
        "seconds": float,
        "cpu_seconds": float,
        "images?": int,
        "score?": float,
        "score_by?": str,
        "best?": {"step": int, "score": float, "name": str, "since": int},
        "excess?": {str: float},
        "diagnosis?": str,
    },
    "grid.json": {"runs": {str: dict}, "launch": _LAUNCH, "restarts": bool, "search?": dict},
}


class RunFolder:
    """Paths of a run and the files in it. Files that another run wrote are never overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.crash = path / "crash"
        self.export = path / "export"
        self._metrics = path / "metrics.jsonl"
        self._lock = FileLock(path / "lock", timeout=0)

    @classmethod
    def create(cls, path: Path | None, name: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> RunFolder:
        """A new run at `path`, or at the next free `runs/NAME-N`. Raises ConfigError if there is something already."""
        # A process that was killed before it wrote the config leaves only these.
        litter = {"run.json", ".run.json.draft", ".config.toml.draft"}
        if path is not None and path.exists() and (not path.is_dir() or {p.name for p in path.iterdir()} - litter):
            advice = f"; `sslx resume {path}` continues it" if (path / "config.toml").exists() else ""
            raise ConfigError(f"out: {path} exists and is not empty{advice}")
        try:
            if path is None:
                path = _next_free(Path("runs"), name)
            path.mkdir(parents=True, exist_ok=True)
            untangled(path)
            folder = cls(path)
            folder.write("run.json", {**facts, "config": config})
            replace(path / "config.toml", dumps(config))
        except OSError as error:
            raise ConfigError(f"out: {path or 'runs'} cannot be written ({error.strerror})") from error
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run. Raises ConfigError that says what is missing."""
        if not (path / "config.toml").is_file():
            raise ConfigError(f"{path}: no run here (no config.toml)")
        return cls(path)

    def config(self) -> dict[str, Any]:
        """The content of config.toml. Raises ConfigError with each option that was edited since the run was made."""
        path = self.path / "config.toml"
        found, facts = read_toml(path), self.facts()
        recorded: dict[str, Any] = facts.get("config", found)  # version 0.1 kept none
        if digest(found) == next((change["before"] for change in reversed(facts.get("changes", []))), ""):
            return recorded  # a change of options was cut short after it was recorded
        if edited := edits(recorded, found):
            raise ConfigError(
                f"{path}: was edited: {some(edited)}; `sslx resume {self.path} --set KEY=VALUE` changes options of a "
                "run, `sslx run --config` makes another one"
            )
        return found

    def settle(self) -> None:
        """Write config.toml again if a change of options was cut short after it was recorded."""
        if read_toml(self.path / "config.toml") != (config := self.config()):
            replace(self.path / "config.toml", dumps(config))
        (self.path / ".config.toml.draft").unlink(missing_ok=True)

    def facts(self) -> dict[str, Any]:
        """The content of run.json; an empty table if there is none."""
        return self.read("run.json") or {}

    def lock(self) -> None:
        """Lock the folder until `unlock`, or until this process ends or crashes.

        Raises LockedError with the owner, ConfigError if something in the folder is a link.
        """
        untangled(self.path)
        try:
            self._lock.acquire()
        except Timeout:
            owner = self._owner()
            raise LockedError(f"{self.path} is being written by process {owner}") from None
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror})") from error
        self.write("lock.json", {"pid": os.getpid(), "host": socket.gethostname()})

    def _owner(self) -> str:
        try:
            who = json.loads((self.path / "lock.json").read_text())
            return f"{who['pid']} on {who['host']}"
        except (OSError, ValueError, KeyError, TypeError):  # it is being written, or damaged
            return "?"

    def unlock(self) -> None:
        if self._lock.is_locked:
            (self.path / "lock.json").unlink(missing_ok=True)
            self._lock.release()

    def read(self, name: str) -> Any:
        """A JSON file of the run, or None. Raises CheckpointError if it is damaged."""
        return read(self.path / name, _SHAPES[name])

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all."""
        (self.path / name).parent.mkdir(exist_ok=True)
        replace(self.path / name, sealed(data))

    @property
    def finished(self) -> bool:
        return (self.path / "results.json").is_file()

    def keep_results(self) -> Path | None:
        """Copy the results aside before they are replaced. Returns the path of the copy, or None if there were none."""
        old = self.path / "results.json"
        if not old.is_file():
            return None
        number = next(n for n in itertools.count(1) if not (self.path / f"results-{n}.json").exists())
        kept = self.path / f"results-{number}.json"
        replace(kept, old.read_bytes())
        return kept

    # --- metrics.jsonl ------------------------------------------------------------------------------------------------

    def log(self, record: Mapping[str, Any]) -> None:
        with open(self._metrics, "a") as file:
            file.write(json.dumps(record) + "\n")

    def sync(self) -> dict[str, Any]:
        """Flush the log to disk, so that no checkpoint is ahead of it. Returns its size and hash."""
        if not self._metrics.exists():
            return {"size": 0, "sha256": hashlib.sha256().hexdigest()}
        with open(self._metrics, "r+b") as file:
            content = file.read()
            os.fsync(file.fileno())
        return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def rewind(self, step: int, known: Mapping[str, Any] | None) -> str:
        """Drop records after `step`, so that the log of a resumed run equals that of an uninterrupted run.

        If the log is damaged, a copy is kept and all lines that can be read stay. Returns a line on this, or nothing.

        Args:
            known: what `sync` returned at this step; None if no checkpoint says this.
        """
        if not self._metrics.exists():
            content = b""
        elif not self._metrics.is_file():
            raise CheckpointError(f"{self._metrics}: expected a file")
        else:
            content = self._metrics.read_bytes()
        whole = content[: known["size"]] if known else b""
        if known and hashlib.sha256(whole).hexdigest() == known["sha256"]:
            if content:
                replace(self._metrics, whole)
            return ""
        lines = content.decode(errors="replace").splitlines()
        kept = [line for line in lines if (record := _record(line)) is not None and record["step"] <= step]
        said = ""
        if known:
            copy = self._metrics.with_name(f"damaged-{time.time_ns()}-metrics.jsonl")
            replace(copy, content)
            said = f"{self._metrics}: damaged before step {step}, where training continues; it is kept as {copy.name}"
        if content or known:
            replace(self._metrics, "".join(line + "\n" for line in kept))
        return said

    @property
    def begun(self) -> bool:
        """Whether a step has been recorded, be it in a line that was cut off."""
        return self._metrics.is_file() and self._metrics.stat().st_size > 0

    @property
    def cut_off(self) -> bool:
        """Whether the run was ended while it wrote a line of the log, which readers leave out."""
        if self.finished or not self.begun:
            return False
        return not self._metrics.read_bytes().endswith(b"\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, without scores. Raises CheckpointError that names a damaged line."""
        return [
            {name: value for name, value in record.items() if not isinstance(value, dict)} for record in self._records()
        ]

    def scores(self) -> list[tuple[int, dict[str, float]]]:
        """Step and scores of each evaluation during training, in metrics.jsonl. Raises CheckpointError as `metrics`."""
        return [(record["step"], record["scores"]) for record in self._records() if "scores" in record]

    def _records(self) -> list[dict[str, Any]]:
        if not self._metrics.is_file():
            return []
        found, lines = [], self._metrics.read_text(errors="replace").split("\n")
        for number, line in enumerate(lines[:-1] if not lines[-1] or self.cut_off else lines, 1):
            if (record := _record(line)) is None:
                raise CheckpointError(f"{self._metrics}: line {number} is damaged")
            found.append(record)
        return found


def edits(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A line for each option that differs between two configs of plain values."""
    old, new = (_options(json.loads(json.dumps(config, default=str))) for config in (before, after))
    return [
        f"{key} is {new.get(key, 'not set')}, it was {old.get(key, 'not set')}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a config by dotted keys, and its tables without options, such as those of some evaluators."""

    def empty(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name, value in table.items():
            if isinstance(value, Mapping):
                yield from empty(value, f"{prefix}{name}.") if value else [f"{prefix}{name}"]

    return {**unlayer(config), **dict.fromkeys(empty(config, ""), "a table")}


def some(lines: Sequence[str], most: int = 5) -> str:
    """Some lines as one."""
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(lines[:most]) + more


def _record(line: str) -> dict[str, Any] | None:
    """The record of a line of metrics.jsonl; None if it was cut short or damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if misfit(record, {"step": int}):
        return None
    scores = {"scores": record.pop("scores")} if isinstance(record.get("scores"), dict) else {}
    return None if misfit(record, {str: float}) or misfit(scores, {str: {str: float}}) else record | scores


def _next_free(root: Path, name: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    root.mkdir(exist_ok=True)
    taken = [int(p.name[len(name) + 1 :]) for p in root.glob(f"{name}-*") if p.name[len(name) + 1 :].isdecimal()]
    number = max(taken, default=0) + 1
    while True:
        try:
            (root / f"{name}-{number}").mkdir()
            return root / f"{name}-{number}"
        except FileExistsError:  # another process was faster
            number += 1


def environment() -> dict[str, Any]:
    """What a run was made with: versions, machine, command, and the commit of the working directory."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
        "command": sys.argv,
        "git": _git(),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what a run computes."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any] | None:
    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None  # not in a repository, or no git
