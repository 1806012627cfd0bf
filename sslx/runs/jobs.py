"""Runs that are carried out at once, by several processes. Threads of this one hand them out and keep the records."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Any, TextIO

from sslx.core import signals
from sslx.core.errors import Interrupted
from sslx.plugins.registry import registry  # torch is imported by what is called, once its threads are counted

Failure = dict[str, str]  # `error` and `traceback`
#: Called with the name of a run, a function and its arguments: what the function returns, None or what failed.
Attempt = Callable[..., Failure | None]


def at_once(jobs: int, work: Callable[[Attempt], None]) -> None:
    """Call `work` in `jobs` threads, each with an `Attempt` that calls in another process; with one job, here.

    A process has its share of the cores, unless OMP_NUM_THREADS is set, and job k the CUDA device k modulo their
    number, unless one is named. Once this process has received a stop signal, the others are told to stop.

    Raises Interrupted if runs were stopped, and KeyboardInterrupt after a second Ctrl-C, which kills the processes.
    """
    if jobs <= 1:  # none, if there is nothing to do
        return work(lambda name, act, *arguments: act(*arguments))
    resource_tracker.ensure_running()  # which would let signals through if a thread had to start it
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)), **os.environ}

    def job(number: int) -> None:
        with closing(_Process({**environment, "LOCAL_RANK": str(number)})) as process:
            work(process.attempt)

    with ThreadPoolExecutor(jobs) as pool:
        working = [pool.submit(job, number) for number in range(jobs)]
        try:
            wait(working)
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()
            raise
    errors = [error for each in working if (error := each.exception()) is not None]
    if unexpected := [error for error in errors if not isinstance(error, Interrupted)]:
        raise unexpected[0]
    if errors:
        raise Interrupted(f"stopped by {signals.received()}")


def failure_of(error: Exception) -> Failure:
    """What is recorded of an error while it is handled."""
    return {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


class _Process:
    """A process that carries out one run after another. After a failure, the next run has a new one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.child: SpawnProcess | None = None

    def attempt(self, name: str, act: Callable[..., Failure | None], /, *arguments: Any) -> Failure | None:
        """What `act` returns there. If the process ends before it returns, this is a failure."""
        if self.child is None:
            signals.hold()
            spawn = multiprocessing.get_context("spawn")
            self.pipe, there = spawn.Pipe()
            self.child = spawn.Process(target=_child, args=(there, self.environment))
            self.child.start()
            there.close()
        told = pickle.dumps((act, arguments))  # is read once signals are heard and the number of threads is set
        try:
            self.pipe.send((name, registry().vouched, told))
            while not self.pipe.poll(0.1):
                if signals.received():
                    self.child.terminate()  # it stops at its next step
                    break
            result: Failure | None = self.pipe.recv()
        except (EOFError, ConnectionError):
            if signals.received():
                raise Interrupted(f"{name}: stopped by {signals.received()}") from None
            while self.child.exitcode is None:  # another thread may be about to learn it, and then `join` does not
                time.sleep(0.01)
            result = {"error": f"its process {_end(self.child.exitcode)}", "traceback": ""}
        if result is not None:
            self.close()
        return result

    def close(self) -> None:
        """Let the process end."""
        if self.child is not None:
            self.pipe.close()
            self.child.join()
            self.child = None


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    advice = ", as systems do when memory runs out; fewer --jobs need less" if name == "SIGKILL" else ""
    return f"was ended by {name}{advice}"


def _child(pipe: connection.Connection, environment: Mapping[str, str]) -> None:
    """Carry out what is sent, until nothing more can come."""
    code = 0
    signals.install()
    threading.Thread(target=_heed_parent, daemon=True).start()
    os.environ.update(environment)
    sys.stdout, sys.stderr = out, err = _Named(sys.stdout), _Named(sys.stderr)
    try:
        while True:
            out.name, vouched, told = pipe.recv()
            err.name = out.name
            registry().vouched |= vouched
            pipe.send(_result(told))
    except (EOFError, ConnectionError):
        pass
    except Interrupted as stop:
        code = stop.exit_code
    except KeyboardInterrupt:
        code = 130
    os._exit(code)  # Python's work at exit takes a second or more after torch was imported


def _result(told: bytes) -> Failure | None:
    try:
        act, arguments = pickle.loads(told)
        result: Failure | None = act(*arguments)
    except Interrupted:
        raise
    except Exception as error:
        return failure_of(error)
    return result


def _heed_parent() -> None:
    """Stop this process at the next step boundary if the one that started it is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _Named(io.TextIOBase):
    """A stream whose lines begin with a name. Each is written whole, so that lines of processes do not mix."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.name, self.rest = stream, "", ""

    def fileno(self) -> int:
        return self.stream.fileno()

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        if lines:
            self.stream.write("".join(f"{self.name}: {line}\n" for line in lines))
            self.stream.flush()
        return len(text)
