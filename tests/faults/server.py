"""Commands in processes that start at once: a server imports everything a single time, and forks for each job.

A job is a list of command lines that one process carries out, with what goes wrong meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 20.0  # seconds; a command that takes longer hangs
CRASHED = 99  # exit code of a process that ends before a file operation
MARK = b"\0"  # between the outputs of two commands
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")


class Done(NamedTuple):
    """The result of a command. A negative code is a signal; None means that it took longer than `LIMIT`."""

    code: int | None
    output: str
    errors: str


class Server:
    """The process that forks. `server(folder, [["compare", "run"]])` runs commands in a folder."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
        here = Path(__file__)
        self.process = subprocess.Popen(
            [sys.executable, str(here), str(here.parents[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __call__(self, folder: Path, commands: Iterable[Sequence[str]], **faults: Any) -> list[Done]:
        """The results of the commands that were carried out, one after another in one process.

        Args:
            folders: a folder for each command, instead of the one for all.
            crash: end as by kill -9 before this file operation in the folder, counted from 1.
            operations: a file into which the file operations of the commands are written, a line each.
            stop: the training step during which SIGTERM arrives.
            remove: a step and a folder that is removed during it.
            limits: limits such as {"FSIZE": 1000}, from step `at` on, by default from the beginning.
            kill: seconds and the number of a signal.
        """
        assert self.process.stdin and self.process.stdout
        faults["folders"] = [str(each) for each in faults.get("folders", [])]
        job = {"folder": str(folder), "commands": [list(map(str, each)) for each in commands], **faults}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return [Done(*each) for each in json.loads(self.process.stdout.readline())]

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=30)


def main() -> None:
    """Serve jobs until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path.insert(0, sys.argv[1])
    _warm_up()
    gc.freeze()  # so that children do not copy the memory of all objects
    for line in sys.stdin:
        answers.write(json.dumps(_carry_out(json.loads(line))) + "\n")
        answers.flush()


def _warm_up() -> None:
    """Import all that a run needs, in this process, and find out once what no fault can change."""
    import sklearn.datasets
    import torch
    from conftest import SMALL, TINY

    import sslx
    from sslx.core.dotted import merge
    from sslx.core.training import run_folder

    torch.set_num_threads(1)
    sklearn.datasets.load_digits = functools.cache(sklearn.datasets.load_digits)
    run_folder.version = functools.cache(run_folder.version)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        small = merge(TINY, {"method": SMALL["vae"], "train": {"epochs": 1}, "evaluators": {"linear": {}}})
        run = sslx.run("vae", out=Path(folder) / "run", device="cpu", **small)
        _command(["embed", str(run.path), "--to", f"{folder}/features.npz"])
        _command(["verify", str(run.path)])
        _command(["compare", str(run.path)])
        _command(["export", str(run.path), "--to", f"{folder}/export"])


def _command(arguments: Sequence[str]) -> int:
    from sslx.cli import main as sslx

    try:
        sslx(arguments)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    except BaseException:
        traceback.print_exc()
    return 70


def _carry_out(job: dict[str, Any]) -> list[tuple[int | None, str, str]]:
    pipes = [os.pipe() for _ in range(2)]
    child = os.fork()
    if not child:
        try:
            for number, (reading, writing) in enumerate(pipes, 1):
                os.dup2(writing, number)
                os.close(reading)
                os.close(writing)
            _child(job)
        finally:
            os._exit(71)
    for _, writing in pipes:
        os.close(writing)
    begun = time.monotonic()
    after, number = job.get("kill", (None, 0))
    found, open_ = {reading: b"" for reading, _ in pipes}, {reading for reading, _ in pipes}
    slow = False
    while open_:
        spent = time.monotonic() - begun
        if after is not None and spent >= after:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            after = None
        if spent > LIMIT and not slow:
            slow = True
            os.kill(child, signal.SIGKILL)
        wait = 1.0 if after is None else min(after - spent, 1.0)
        for reading in select.select(open_, [], [], max(0.0, wait))[0]:
            block = os.read(reading, 1 << 16)
            found[reading] += block
            if MARK in block:
                begun = time.monotonic()  # of the next command
            if not block:
                os.close(reading)
                open_.discard(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output, errors = (text.split(MARK) for text in found.values())
    done: list[tuple[int | None, str, str]] = []
    for i in range(0, len(output) - 1, 2):
        done.append((int(output[i + 1]), output[i].decode(errors="replace"), errors[i // 2].decode(errors="replace")))
    if status != 0:  # it ended within a command
        code = None if slow else status
        done.append((code, output[-1].decode(errors="replace"), errors[-1].decode(errors="replace")))
    return done


def _child(job: dict[str, Any]) -> None:
    """Carry out the commands of a job, and end the process."""
    from sslx.core import signals

    signals.install()
    os.chdir(job["folder"])
    operations = _watch(job["folder"], job.get("crash", 0)) if {"crash", "operations"} & job.keys() else []
    _arrange(job)
    for i, arguments in enumerate(job["commands"]):
        if job["folders"]:
            os.chdir(job["folders"][i])
        code = _command(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, MARK + str(code).encode() + MARK)
        os.write(2, MARK)
    if "operations" in job:
        Path(job["operations"]).write_text("".join(f"{each}\n" for each in operations))
    os._exit(0)


def _watch(folder: str, crash: int) -> list[str]:
    """The operations that change files in a folder, from here on; the process ends before number `crash`."""
    operations: list[str] = []

    def meet(what: str) -> None:
        operations.append(what)
        if len(operations) == crash:
            os._exit(CRASHED)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and flags & _WRITING and _inside(path):
                meet(f"open {os.path.relpath(os.fsdecode(path), folder)}")
        elif event in _CHANGES and isinstance(arguments[0], str | bytes) and _inside(arguments[0]):
            meet(f"{event.removeprefix('os.')} {os.path.relpath(os.fsdecode(arguments[0]), folder)}")

    def _inside(path: str | bytes) -> bool:
        return os.path.abspath(os.fsdecode(path)).startswith(folder + os.sep)

    sys.addaudithook(heard)
    fsync = os.fsync

    def synced(descriptor: int) -> None:
        meet("fsync")
        fsync(descriptor)

    os.fsync = synced

    from sslx.core.training.checkpoint import _Hashing
    from sslx.core.training.run_folder import RunFolder

    write = _Hashing.write

    def written(self: Any, data: Any) -> int:
        if len(operations) == crash - 1:
            write(self, bytes(data)[: len(data) // 2])
            self.file.flush()
        meet(f"write {os.path.basename(self.file.name)}")
        return write(self, data)

    def logged(self: RunFolder, record: Any) -> None:
        line = json.dumps(record) + "\n"
        with open(self._metrics, "a") as file:
            if len(operations) == crash - 1:
                file.write(line[: len(line) // 2])
                file.flush()
            meet("write metrics.jsonl")
            file.write(line)

    _Hashing.write = written  # type: ignore[method-assign]
    RunFolder.log = logged  # type: ignore[method-assign]
    return operations


def _arrange(job: dict[str, Any]) -> None:
    """Let happen at a training step what the job says."""
    from sslx.core import signals
    from sslx.core.training.engine import Engine

    def limit() -> None:
        for name, value in job.get("limits", {}).items():
            kind = getattr(resource, f"RLIMIT_{name}")
            if name == "NOFILE":  # so many more than are open now
                free = os.dup(0)
                os.close(free)
                value += free
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))

    if "at" not in job:
        limit()
    if not {"at", "stop", "remove"} & job.keys():
        return
    update, done = Engine.update, [0]

    def counted(self: Engine, *arguments: Any) -> Any:
        done[0] += 1
        if done[0] == job.get("stop"):
            signals._received = signal.SIGTERM
        if done[0] == job.get("at"):
            limit()
        if done[0] == job.get("remove", (0,))[0]:
            shutil.rmtree(job["remove"][1])
        return update(self, *arguments)

    Engine.update = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
