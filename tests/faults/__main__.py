"""`python tests/faults --minutes 30`: many faults of each kind, with a line for each kind and each broken promise."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # where conftest.py is

KINDS = ("flips", "crashes", "kills", "disks", "hostile")


def main() -> int:
    """Try faults for a time. Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python tests/faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="time for all kinds together, in equal shares")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices")
    parser.add_argument("--only", action="append", choices=KINDS, help="a kind of fault; repeatable")
    options = parser.parse_args()
    kinds = [kind for kind in options.only or KINDS if importlib.util.find_spec(f"faults.{kind}")]
    broken = 0
    with tempfile.TemporaryDirectory(prefix="sslx-faults-") as folder:
        for kind in kinds:
            broken += _tried(kind, Path(folder).resolve() / kind, options.minutes * 60 / len(kinds), options.seed)
    return 1 if broken else 0


def _tried(kind: str, folder: Path, seconds: float, seed: int) -> int:
    """Cases of a kind until there are no more or the time is over. Returns the number of broken promises."""
    begun, tried, broken = time.monotonic(), 0, 0
    for case in _cases(kind, folder, seed):
        tried += 1
        if case.broken:
            broken += 1
            print(f"{kind}: {case.name}: {case.broken}", flush=True)
        if time.monotonic() - begun > seconds:
            break
    print(f"{kind}: {tried} cases, {broken} broke a promise, {time.monotonic() - begun:.0f} s", flush=True)
    return broken


def _cases(kind: str, folder: Path, seed: int) -> Iterator[Any]:
    folder.mkdir()
    module = importlib.import_module(f"faults.{kind}")
    if kind == "hostile":
        yield from module.cases(folder)
        return
    from faults.runs import Place
    from faults.server import Server

    server = Server()
    try:
        yield from module.cases(Place(folder, server), random.Random(seed))
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
