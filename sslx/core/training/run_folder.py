"""The folder of a run: its config, what it ran on, its metrics, and the lock that keeps others out.

config.toml     every option; `sslx run --config` repeats the run
run.json        versions, components, machine, git
metrics.jsonl   a record each `log_every` steps
checkpoints/    step-N/
results.json    scores of the evaluators, with their protocols; its presence means that the run is finished
*.png           pictures: reconstructions, samples, and for points the plane
training.json   times, and the label-free diagnosis of the training
export/         weights of the encoder as safetensors, with a config
bad-images.txt  the files that were left out of the dataset, if any
crash/          the step at which a loss was not finite
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sslx.core.errors import ConfigError, LockedError
from sslx.core.toml import dumps, read

_PACKAGES = ("sslx", "torch", "torchvision", "timm", "numpy", "scikit-learn", "faiss-gpu", "faiss-cpu")


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
            folder = cls(path)
            folder.write("run.json", facts)
            _replace(path / "config.toml", dumps(config))
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
        return read(self.path / "config.toml")

    def lock(self) -> None:
        """Lock the folder until `unlock`, or until this process ends or crashes. Raises LockedError with the owner."""
        owner = self.path / "lock.json"
        try:
            self._lock.acquire()
        except Timeout:
            who = json.loads(owner.read_text()) if owner.exists() else {}
            raise LockedError(
                f"{self.path} is being written by process {who.get('pid', '?')} on {who.get('host', '?')}"
            ) from None
        self.write("lock.json", {"pid": os.getpid(), "host": socket.gethostname()})

    def unlock(self) -> None:
        if self._lock.is_locked:
            (self.path / "lock.json").unlink(missing_ok=True)
            self._lock.release()

    def read(self, name: str) -> Any:
        """A JSON file of the run, or None."""
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else None

    def write(self, name: str, data: Any) -> None:
        """Write a JSON file, whole or not at all."""
        (self.path / name).parent.mkdir(exist_ok=True)
        _replace(self.path / name, json.dumps(data, indent=1) + "\n")

    @property
    def finished(self) -> bool:
        return (self.path / "results.json").exists()

    def keep_results(self) -> Path | None:
        """Copy the results aside before they are replaced. Returns the path of the copy, or None if there were none."""
        old = self.path / "results.json"
        if not old.exists():
            return None
        number = 1 + len(list(self.path.glob("results-*.json")))
        kept = self.path / f"results-{number}.json"
        _replace(kept, old.read_text())
        return kept

    def log(self, record: Mapping[str, Any]) -> None:
        with open(self._metrics, "a") as file:
            file.write(json.dumps(record) + "\n")

    def sync(self) -> None:
        """Flush the log to disk, so that no checkpoint is ahead of it."""
        if self._metrics.exists():
            with open(self._metrics, "a") as file:
                os.fsync(file.fileno())

    def rewind(self, step: int) -> None:
        """Drop records after `step`, so that the log of a resumed run equals that of an uninterrupted run."""
        if self._metrics.exists():
            kept = [line for line in self._metrics.read_text().splitlines() if _is_upto(line, step)]
            _replace(self._metrics, "".join(line + "\n" for line in kept))

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._metrics.read_text().splitlines()] if self._metrics.exists() else []


def _is_upto(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError):  # cut short when the process was killed
        return False


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    with open(draft, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _next_free(root: Path, name: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    root.mkdir(exist_ok=True)
    taken = [int(p.name[len(name) + 1 :]) for p in root.glob(f"{name}-*") if p.name[len(name) + 1 :].isdigit()]
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
