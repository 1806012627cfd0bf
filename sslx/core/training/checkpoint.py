"""Checkpoints that appear whole or not at all.

A checkpoint is a folder `step-N`. It is written beside its place, every file is synced and hashed in `manifest.json`,
and one rename makes it appear. Loading checks the hashes, because torch reads a flipped bit without an error, and
executes nothing: `weights_only=True`.
"""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sslx.core.errors import CheckpointError
from sslx.core.training.runtime import Runtime

FORMAT = 1


class _Hashing:
    """A file that hashes what is written to it. A file object, since a path would end up in torch's archive."""

    def __init__(self, path: Path) -> None:
        self.path, self.sha, self.size = path, hashlib.sha256(), 0
        self.file = open(path, "wb")  # noqa: SIM115  closed by close()

    def write(self, data: Any) -> int:
        self.sha.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> dict[str, Any]:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return {"size": self.size, "sha256": self.sha.hexdigest()}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: Any) -> dict[str, Any]:
    file = _Hashing(path)
    try:
        if path.suffix == ".json":
            file.write((json.dumps(data, indent=1, sort_keys=True) + "\n").encode())
        else:
            torch.save(data, file)  # type: ignore[arg-type]
        return file.close()
    except BaseException:
        file.file.close()
        raise


def save(
    folder: Path, step: int, shared: Mapping[str, Any], local: Mapping[str, Any], runtime: Runtime, keep: int = 2
) -> Path:
    """Write `folder/step-N`, called on every process. Older checkpoints are removed once the new one is in place.

    Args:
        shared: state that is equal on all processes, written by the main one. Tensors and plain values.
        local: state of this process, written by itself.

    Raises:
        CheckpointError: something could not be written, on any process; earlier checkpoints are untouched.
    """
    final, draft = folder / f"step-{step:09d}", folder / f".draft-step-{step:09d}"
    if runtime.main:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    runtime.barrier()
    files, problem = {}, ""
    try:
        files[f"rank-{runtime.rank}.pt"] = _write(draft / f"rank-{runtime.rank}.pt", dict(local))
        if runtime.main:
            files["shared.pt"] = _write(draft / "shared.pt", dict(shared))
    except Exception as error:  # a full disk is a RuntimeError of torch.save, with the OSError as its context
        problem = str(error.__context__ or error)
    reports = runtime.collect((files, problem))
    problem = next((problem for _, problem in reports if problem), "")
    if runtime.main and not problem:
        try:
            everything = {name: facts for files, _ in reports for name, facts in files.items()}
            manifest = {"format": FORMAT, "step": step, "world": runtime.world, "files": everything}
            _write(draft / "manifest.json", manifest)
            _sync(draft)
            if final.exists():  # the same step again, after a damaged one was set aside
                shutil.rmtree(final)
            os.rename(draft, final)
            _sync(folder)
            for old in steps(folder)[:-keep]:
                shutil.rmtree(folder / f"step-{old:09d}", ignore_errors=True)
        except OSError as error:
            problem = str(error)
    problem = runtime.share(problem)
    if problem:
        if runtime.main:
            shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(f"{final}: could not be written: {problem}")
    return final


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in place, oldest first."""
    names = (path.name.removeprefix("step-") for path in folder.glob("step-*"))
    return sorted(int(name) for name in names if name.isdigit())


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written. Raises CheckpointError."""
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text())
        expected = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged: no readable manifest ({error})") from error
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {manifest.get('format')}, this sslx reads {FORMAT}")
    for name, facts in expected.items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{path}: damaged: {name} is missing")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != facts["sha256"]:
            raise CheckpointError(f"{path}: damaged: {name} is not what was written")
    return manifest


def load(path: Path, rank: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shared and local state of a verified checkpoint, on the CPU. Raises CheckpointError, and executes nothing."""
    try:
        shared, local = (
            torch.load(path / name, map_location="cpu", weights_only=True) for name in ("shared.pt", f"rank-{rank}.pt")
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: holds more than tensors and plain values; nothing of it was loaded") from error
    return shared, local


def newest(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint that is whole, and each newer one that is not, with what is wrong with it.

    Raises CheckpointError if there are checkpoints and none is whole; nothing is deleted.
    """
    complaints: dict[Path, str] = {}
    for step in reversed(steps(folder)):
        path = folder / f"step-{step:09d}"
        try:
            verify(path)
            return path, complaints
        except CheckpointError as error:
            complaints[path] = str(error)
    if complaints:
        raise CheckpointError("no checkpoint can be used:\n" + "\n".join(complaints.values()))
    return None, complaints
