"""Some faults of each kind. `python tests/faults` tries many more."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from . import crashes, disks, flips, kills
from .runs import Case, Place
from .server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Place:
    return Place(tmp_path.resolve(), server)


def broken(cases: Iterable[Case], number: int) -> list[str]:
    """Of the first cases, as many as `number`, those that broke a promise."""
    tried = list(itertools.islice(cases, number))
    assert tried
    return [f"{case.name}: {case.broken}" for case in tried if case.broken]


def test_a_flipped_bit_in_any_file_is_named_or_changes_nothing(place: Place) -> None:
    assert not broken(flips.cases(place, random.Random(0), quick=True), 120)


def test_a_process_that_ends_before_any_file_operation_loses_nothing(place: Place) -> None:
    assert not broken(crashes.cases(place, random.Random(0), quick=True), 20)


def test_a_run_that_is_killed_at_any_time_ends_as_one_that_was_not(place: Place) -> None:
    assert not broken(kills.cases(place, random.Random(0), ["simvae", "simclr", "gedi"]), 6)


def test_lack_of_disk_memory_and_descriptors_is_one_line_and_loses_nothing(place: Place) -> None:
    assert not broken(disks.cases(place, random.Random(0), quick=True), 99)
    with disks.mounted(place.fresh("disk"), "size=60k") as allowed:
        if not allowed:
            pytest.skip("small and read-only disks need root to be mounted; everything else was tried")
