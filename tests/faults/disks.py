"""Machines that end badly: full and read-only disks, a folder that vanishes, too few descriptors, too little memory.

Each is one clean line, loses nothing, and the run goes on once the machine is mended.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sslx.core.training import checkpoint

from .runs import Case, Place, ended, outcome, unclean

_OPTIONS: dict[str, Any] = {"train": {"checkpoint_steps": 4}}
_LOST = (
    "files",
    "export/config.json",
    "export/model.safetensors",
    "drafts",
)  # pictures and exports, of which it is said


def cases(place: Place, chosen: random.Random, quick: bool = False) -> Iterator[Case]:
    """Each kind of trouble, at a few places or again and again at random ones."""
    command = place.run("vae", **_OPTIONS)
    whole = place.fresh("whole")
    place.must(whole, command)
    expected = outcome(whole / "run")
    stopped = place.fresh("stopped")
    place.must(stopped, command, stop=9)
    for turn in itertools.count():
        sizes = [0, 700, 6000, 30000] if turn == 0 else [chosen.randrange(60000)]
        for size in sizes:
            yield _narrow(place, command, expected, f"no file larger than {size} bytes", limits={"FSIZE": size}, at=5)
        yield _narrow(place, command, expected, "no file larger than 500 bytes", limits={"FSIZE": 500})
        for size in [60, 130] if turn == 0 else [chosen.randrange(20, 500)]:
            yield from _mounted(place, command, expected, f"size={size}k")
        for number in [0, 2] if turn == 0 else [chosen.randrange(8)]:
            limits = {"NOFILE": number}
            yield _narrow(place, command, expected, f"{number} more open files", "open files", limits=limits, at=3)
        yield _vanished(place, command, expected, 2 if turn == 0 else 1 + chosen.randrange(12))
        yield _without_memory(place)
        for subject in (whole, stopped):
            yield from _read_only(place, subject / "run", expected)
        if quick:
            return


def _narrow(
    place: Place, command: list[str], expected: dict[str, Any], name: str, *signs: str, folder: Path | None = None,
    **faults: Any,
) -> Case:  # fmt: skip
    """A run on a machine that is too small, and then on one that is not."""
    folder = folder or place.fresh("narrow")
    (done,) = place.server(folder, [command], **faults)
    problem = _said(done.errors, *(signs or ("File too large", "No space left"))) if done.code == 0 else unclean(done)
    if done.code != 0 and not problem:
        problem = _said(done.errors, *(signs or ("File too large", "No space left"))) or _said(done.errors, "run")
    return _mended(place, folder, command, expected, f"{name} ({_when(faults)})", problem, done.code)


def _when(faults: dict[str, Any]) -> str:
    return f"from step {faults['at']} on" if "at" in faults else "from the beginning"


def _said(errors: str, *signs: str) -> str:
    return "" if any(sign in errors for sign in signs) else f"says nothing of {' or '.join(signs)}: {errors[-300:]!r}"


def _mended(
    place: Place, folder: Path, command: list[str], expected: dict[str, Any], name: str, problem: str, code: int | None
) -> Case:
    """What came of it once the trouble is over."""
    if code == 0:  # there was room enough, or only pictures and exports are missing, of which it was said
        left = ended(folder / "run", expected)
        missing = left.startswith("differs in") and {part.split(":")[0] for part in left[11:].split(", ")} <= set(_LOST)
        return Case(name, "" if not left else problem if missing else left)
    before = checkpoint.steps(folder / "run" / "checkpoints")
    again = ["resume", "run"] if (folder / "run" / "config.toml").is_file() else command
    (done,) = place.server(folder, [again])
    if done.code != 0:
        problem = problem or f"then `{again[0]}` ends with exit code {done.code}: {done.errors[-300:]}"
    elif before and checkpoint.steps(folder / "run" / "checkpoints")[-1] < before[-1]:
        problem = problem or "a checkpoint is gone"
    return Case(name, problem or ended(folder / "run", expected))


def _mounted(place: Place, command: list[str], expected: dict[str, Any], options: str) -> Iterator[Case]:
    """A run on a small disk of its own, which then grows. None where mounting is not allowed."""
    folder = place.fresh("disk")
    with mounted(folder, options) as allowed:
        if not allowed:
            return
        case = None
        (done,) = place.server(folder, [command])
        problem = _said(done.errors, "No space left") if done.code == 0 else unclean(done, "run")
        problem = problem or _said(done.errors, "No space left")
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        case = _mended(place, folder, command, expected, f"a disk with {options}", problem, done.code)
    yield case


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[bool]:
    """A disk in memory, mounted at a folder; False where this is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    allowed = os.name == "posix" and shutil.which("mount") is not None and os.geteuid() == 0
    allowed = allowed and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _vanished(place: Place, command: list[str], expected: dict[str, Any], step: int) -> Case:
    folder = place.fresh("vanished")
    (done,) = place.server(folder, [command], remove=(step, "run"))
    name = f"the folder of the run is removed during step {step}"
    problem = unclean(done, "run") if done.code else "is not noticed"
    shutil.rmtree(folder / "run", ignore_errors=True)
    return _mended(place, folder, command, expected, name, problem, done.code)


def _without_memory(place: Place) -> Case:
    """Networks that are too large."""
    large = [*place.run("vae"), "--set", "encoder.hidden=30000,30000"]
    folder = place.fresh("memory")
    (done,) = place.server(folder, [large], limits={"AS": _used(place) + (1 << 29)})
    problem = unclean(done) or _said(done.errors, "not enough memory")
    return Case("half a gigabyte of memory and an encoder of 30000 x 30000", problem)


def _used(place: Place) -> int:
    """Bytes of address space that the server has."""
    pages = Path(f"/proc/{place.server.process.pid}/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def _read_only(place: Place, run: Path, expected: dict[str, Any]) -> Iterator[Case]:
    """Commands in a folder that cannot be written; those that only read succeed."""
    folder = place.fresh("read-only")
    with mounted(folder, "size=64m") as allowed, contextlib.ExitStack() as stack:
        if not allowed and os.geteuid() == 0:
            return  # who may write anywhere
        shutil.copytree(run, folder / "run")
        if allowed:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        else:
            for path in (*folder.rglob("*"), folder):
                stack.callback(path.chmod, path.stat().st_mode)
                path.chmod(0o555 if path.is_dir() else 0o444)
        finished = (run / "results.json").is_file()
        elsewhere = str(place.fresh("elsewhere") / "features.npz")
        reading = [["embed", "run", "--to", elsewhere]] + [["compare", "run"], ["verify", "run"]] * finished
        writing = [["eval", "run", "-e", "knn"]] if finished else [["resume", "run"]]
        results = place.server(folder, [*reading, *writing, ["embed", "run", "--to", "features.npz"]])
        commands = [*reading, *writing, ["embed", "run", "--to", "features.npz"]]
        for command, done in zip(commands, results, strict=False):
            name = f"a read-only disk: `sslx {' '.join(command[:2])}` of a {'finished' if finished else 'stopped'} run"
            if command in reading:
                yield Case(name, "" if done.code == 0 else f"exit code {done.code}: {done.errors[-300:]}")
            else:
                where = "features.npz" if command[0] == "embed" else "run"
                yield Case(name, unclean(done, where) or _said(done.errors, "Read-only", "Permission", "may write"))
        if not finished:
            if allowed:
                subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
            else:
                stack.close()
            yield _mended(place, folder, ["resume", "run"], expected, "then the disk can be written", "", 1)
