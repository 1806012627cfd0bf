"""Checkpoints that appear whole or not at all.

A checkpoint is a folder `step-N`. It is written beside its place, every file is synced and hashed in `manifest.json`,
and one rename makes it appear. Loading checks the hashes, because torch reads a flipped bit without an error, and
executes nothing: `weights_only=True`.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sslx.core.console import explain
from sslx.core.errors import CheckpointError, ConfigError
from sslx.core.files import read, sealed
from sslx.core.interfaces import Module
from sslx.core.training.runtime import Runtime

FORMAT = 1
_FACTS = {"size": int, "sha256": str}
_MANIFEST = {
    "format": int, "step": int, "world": int, "files": {str: _FACTS}, "config?": str, "data?": str, "metrics?": _FACTS
}  # fmt: skip


class _Hashing:
    """A file that hashes what is written to it. A file object, since a path would end up in torch's archive."""

    def __init__(self, path: Path) -> None:
        self.sha, self.size = hashlib.sha256(), 0
        self.problem: OSError | None = None  # which torch.save would replace by its own
        self.file = open(path, "xb")  # noqa: SIM115  closed by close()

    def write(self, data: Any) -> int:
        self.sha.update(data)
        self.size += len(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.problem = error
            raise

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> dict[str, Any]:
        with self.file:
            self.flush()
            os.fsync(self.file.fileno())
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
            file.write(sealed(data).encode())
        else:
            torch.save(data, file)  # type: ignore[arg-type]
        return file.close()
    except Exception as error:
        with suppress(OSError):
            file.file.close()
        if file.problem is not None:
            raise file.problem from error
        raise


def save(
    folder: Path,
    step: int,
    shared: Mapping[str, Any],
    local: Mapping[str, Any],
    runtime: Runtime,
    keep: int = 2,
    about: Mapping[str, Any] = {},
    best: int | None = None,
) -> Path:
    """Write `folder/step-N`, called on every process. Older checkpoints are removed once the new one is in place.

    Args:
        shared: state that is equal on all processes, written by the main one. Tensors and plain values.
        local: state of this process, written by itself.
        about: what the checkpoint rests on, for its manifest: `config` and `data`, which are hashes, and `metrics`.
        best: the step of a checkpoint that is never removed, however old it is.

    Raises:
        CheckpointError: something could not be written, on any process; earlier checkpoints are untouched.
    """
    final, draft = folder / f"step-{step:09d}", folder / f".draft-step-{step:09d}"

    def begin() -> None:
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir(parents=True)
        except OSError as error:
            raise CheckpointError(f"{final}: could not be written: {explain(error)}") from error

    runtime.lead(begin)
    files, problem = {}, ""
    try:
        files[f"rank-{runtime.rank}.pt"] = _write(draft / f"rank-{runtime.rank}.pt", dict(local))
        if runtime.main:
            files["shared.pt"] = _write(draft / "shared.pt", dict(shared))
    except Exception as error:
        problem = explain(error)
    reports = runtime.collect((files, problem))
    problem = next((problem for _, problem in reports if problem), "")
    if runtime.main and not problem:
        try:
            everything = {name: facts for files, _ in reports for name, facts in files.items()}
            manifest = {"format": FORMAT, "step": step, "world": runtime.world, "files": everything, **about}
            _write(draft / "manifest.json", manifest)
            _sync(draft)
            if final.exists():  # the same step again, after a damaged one was set aside
                shutil.rmtree(final)
            os.rename(draft, final)
            _sync(folder)
            for old in steps(folder)[:-keep]:
                if old != best:
                    shutil.rmtree(folder / f"step-{old:09d}", ignore_errors=True)
        except OSError as error:
            problem = explain(error)
    problem = runtime.share(problem)
    if problem:
        if runtime.main:
            shutil.rmtree(draft, ignore_errors=True)
        last = steps(folder)
        kept = f"; `sslx resume` continues from step {last[-1]}" if last else ""
        raise CheckpointError(f"{final}: could not be written: {problem}{kept}")
    return final


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in place, oldest first."""
    names = (path.name.removeprefix("step-") for path in folder.glob("step-*"))
    return sorted({int(name) for name in names if name.isdecimal()})


def at(folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint. Raises ConfigError, with the steps that there are, if there is none."""
    if step in (found := steps(folder)):
        return folder / f"step-{step:09d}"
    raise ConfigError(f"checkpoint {step}: there is none; there are {', '.join(map(str, found)) or 'no others'}")


def manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint. Raises CheckpointError if it is damaged."""
    found = read(path / "manifest.json", _MANIFEST)
    if found is None:
        raise CheckpointError(f"{path}: damaged: there is no manifest.json")
    if found["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {found['format']}, this sslx reads {FORMAT}")
    return found


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written. Raises CheckpointError."""
    found = manifest(path)
    if path.name != f"step-{found['step']:09d}":
        raise CheckpointError(f"{path}: is the checkpoint of step {found['step']}")
    for name in {"shared.pt", *(f"rank-{rank}.pt" for rank in range(min(found["world"], 1 << 16))), *found["files"]}:
        file = path / name
        if name not in found["files"] or file.parent != path or not file.is_file():
            raise CheckpointError(f"{path}: damaged: {name} is missing")
        if _hash(file) != found["files"][name]["sha256"]:
            raise CheckpointError(f"{path}: damaged: {name} is not what was written")
    return found


def _hash(path: Path) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def load(path: Path, rank: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shared and local state of a verified checkpoint, on the CPU. Raises CheckpointError, and executes nothing."""
    shared, local = _load(path, "shared.pt"), _load(path, f"rank-{rank}.pt")
    if not {"method", "step", "complete"} <= shared.keys():
        raise CheckpointError(f"{path}: is not a checkpoint of sslx")
    return shared, local


def _load(path: Path, name: str) -> dict[str, Any]:
    try:
        state = torch.load(path / name, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises many kinds for files that it did not write
        raise CheckpointError(f"{path}: {name} holds more than tensors and plain values; nothing is loaded") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: is not a checkpoint of sslx")
    return state


def _divided(path: Path, written: int, rank: int, world: int, divisible: Collection[str]) -> dict[str, Any]:
    """Local state for process `rank` of `world`, from a checkpoint of another number of processes.

    The rows of all `written` processes are joined in order of rank. Process r begins r/world of the way through them
    and takes as many as one process had, going on with the first row after the last one.
    """
    states, found = [_load(path, f"rank-{each}.pt") for each in range(written)], {}
    for name in dict.fromkeys(name for state in states for name in state):
        if name not in divisible:
            raise CheckpointError(
                f"{path}: {name} belongs to one of {written} processes and cannot be divided among {world}; resume the "
                f"run with --devices {written}"
            )
        rows = torch.cat([state[name] for state in states])
        place = rank * len(rows) // world + torch.arange(len(states[0][name]))
        found[name] = rows[place % len(rows)]
    return found


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


def fill(method: Any, path: Path, rank: int = 0, world: int | None = None) -> dict[str, Any]:
    """Give a method the weights of a verified checkpoint, and return the shared state.

    Args:
        world: number of processes, if the training continues; none: the state is that of process `rank`.

    Raises:
        CheckpointError: the weights do not fit, or there is local state of another number of processes that cannot be
            divided. `Module.divisible` names what can.
    """
    written = manifest(path)["world"]
    shared, local = load(path, rank if world in (None, written) else 0)
    try:
        if world not in (None, written):
            parts = [(name, part) for name, part in method.named_modules() if isinstance(part, Module)]
            divisible = {f"{name}.{each}".lstrip(".") for name, part in parts for each in part.divisible}
            local = _divided(path, written, rank, world, divisible)
        method.load_state_dict(shared["method"])
        method.load_local_state(local)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = said[min(1, len(said) - 1)] if said else type(error).__name__  # the first line of torch says nothing
        raise CheckpointError(f"{path}: its weights do not fit the method: {reason}") from error
    return shared
