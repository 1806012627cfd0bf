"""Several processes that share the runs of a folder: whoever locks a run carries it out."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from sslx.core import signals
from sslx.core.console import is_launched, is_main
from sslx.core.errors import ConfigError, Interrupted, LockedError

WAIT = 2.0  # seconds between two looks at the runs that other processes carry out
K = TypeVar("K")


def shared(folder: Path, names: Mapping[K, str], done: Callable[[K], bool]) -> Generator[K, None, None]:
    """The keys of the runs that this process is to carry out, each locked until the next one is asked for.

    What another process carries out is waited for. If that ends without having done it, this one takes it over.

    Args:
        folder: of the locks.
        names: the name of each run; keys with the same name are never carried out at the same time.
        done: whether nothing is left to do, asked while the run is locked.

    Raises LockedError if this process is one of several of a launch, which cannot wait for other launches, and
    Interrupted if a stop signal is received while others are waited for.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error
    todo = dict(names)
    while todo:
        for key, name in list(todo.items()):
            lock = FileLock(folder / f".{name}.lock", timeout=0)
            try:
                lock_held = lock.acquire() if is_main() else nullcontext()
            except Timeout:
                if is_launched():
                    raise LockedError(f"{name}: another process carries it out") from None
                continue
            with lock_held:
                del todo[key]
                if not done(key):
                    yield key
        if todo:
            if signals.received():
                raise Interrupted(f"stopped by {signals.received()}")
            time.sleep(WAIT)
