"""SIGKILL and SIGTERM at any time. The run then ends as one that nothing ever ended."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Sequence

from .runs import SCORED, Case, Place, ended, every_method, outcome


def cases(place: Place, chosen: random.Random, methods: Sequence[str] = ()) -> Iterator[Case]:
    """Each method is killed and stopped at a random time, again and again."""
    while True:
        for method in methods or every_method():
            yield from killed(place, chosen, method)


def killed(place: Place, chosen: random.Random, method: str) -> Iterator[Case]:
    """One case for each signal."""
    command = place.run(method, train={"checkpoint_steps": 3, **SCORED})
    folder = place.fresh("whole")
    begun = time.monotonic()
    place.must(folder, command)
    lasted, expected = time.monotonic() - begun, outcome(folder / "run")
    for number in (signal.SIGKILL, signal.SIGTERM):
        folder = place.fresh("killed")
        after = chosen.uniform(0.3, 1.0) * lasted
        (done,) = place.server(folder, [command], kill=(after, int(number)))
        name = f"{method}: {number.name} after {after:.2f} s of {lasted:.2f} s"
        problem = ""
        if number == signal.SIGTERM and done.code not in (0, 75):
            problem = f"exit code {done.code}: {done.errors[-200:]}"
        elif done.code == 75 and "`sslx resume run` continues" not in done.errors:
            problem = f"does not say how to go on: {done.errors[-200:]}"
        begun_ = (folder / "run" / "config.toml").is_file()
        (done,) = place.server(folder, [["resume", "run"] if begun_ else command])
        if done.code != 0:
            problem = problem or f"exit code {done.code}: {done.errors[-300:]}"
        yield Case(name, problem or ended(folder / "run", expected))
