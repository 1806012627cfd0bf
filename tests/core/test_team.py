"""Several processes that evaluate together: scores of one, parts of the features in each, and one end for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import together

SCRIPT = """
from contextlib import suppress
from datetime import timedelta
import attrs, torch
import torch.distributed as dist
from sslx.api import Evaluation, Features, Split
from sslx.core.errors import Interrupted, SslxError
from sslx.core.team import Team
from sslx.core.training.runtime import Runtime
from sslx.evaluators.knn import KNN

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
generator = torch.Generator().manual_seed(0)
labels = torch.randint(5, (900,), generator=generator)
z = torch.randn(5, 4, generator=generator)[labels].add(torch.randn(900, 4, generator=generator)).mul(4).round() / 4 + 50
share = {"training": z[:600].tensor_split(SHARES)[rank], "test": z[600:].tensor_split([100, 100])[rank]}

def encode(method, half, of):
    if method == "broken" and rank == 2:
        raise ValueError("no such layer")
    return share[half] if len(share[half]) else torch.empty(0, 0)

def rows(z, places):
    return len(z), places.tolist()

team = Team(encode, timedelta(seconds=60))
if rank:
    try:
        team.serve()
        print("ended")
    except SslxError as error:
        print(f"{type(error).__name__}: {error}")
else:
    with suppress(Interrupted), team.leading():
        bank, queries = (team.features("it", half, "features") for half in ("training", "test"))
        known, truths = labels.tensor_split([600])
        assert queries.whole().equal(z[600:]) and bank[torch.tensor([599, 0, 3])].whole().equal(z[[599, 0, 3]])
        found = bank.each(rows)
        assert [n for n, _ in found] == [len(part) for part in z[:600].tensor_split(SHARES)]
        assert sum((places for _, places in found), []) == list(range(600))
        train, test = Features(z[:600], known, {}), Features(z[600:], truths, {})
        empty = Split(torch.zeros(1, 1, 1, 1))
        whole = Evaluation(train, test, None, (empty, empty), None, torch.device("cpu"), 0, None)
        parted = attrs.evolve(whole, train=attrs.evolve(train, z=bank))
        for options in {}, {"distance": "cosine", "cosine_neighbours": (3, 20, 700), "also": ("top-5",), "shots": (1, 5)}:
            one, several = KNN(**options).evaluate(whole), KNN(**options).evaluate(parted)
            assert several.scores == one.scores and several.protocol == one.protocol, (several, one)
        try:
            team.features("broken", "training", "features")
        except SslxError as error:
            print(error)
        END
Runtime.leave(0)
"""
THREE = "[200, 400]"


def test_neighbours_in_parts_are_those_of_the_whole_and_each_process_has_its_own(tmp_path: Path) -> None:
    said = together(tmp_path, SCRIPT.replace("SHARES", THREE).replace("END", "pass"), 3)
    assert said == ["ValueError: no such layer\n", "ended\n", "ended\n"]
    said = together(tmp_path, SCRIPT.replace("SHARES", "[590, 590]").replace("END", "pass"), 3)  # one has nothing
    assert said[1:] == ["ended\n", "ended\n"]


def test_all_processes_end_as_the_main_one_does(tmp_path: Path) -> None:
    stop = "raise Interrupted('stopped by SIGTERM')"
    said = together(tmp_path, SCRIPT.replace("SHARES", THREE).replace("END", stop), 3)
    assert said[1:] == ["Interrupted: stopped by SIGTERM\n"] * 2


GONE = """
import os, time
from datetime import timedelta
import torch.distributed as dist
from sslx.core import team
from sslx.core.training.runtime import Runtime, lost

dist.init_process_group("gloo")
team._PING = 0.1
both = team.Team(lambda method, half, of: None, timedelta(seconds=60))
if dist.get_rank():
    os._exit(0)
try:
    with both.leading():
        time.sleep(2)
        both.ask("call")
except RuntimeError as error:
    print("lost", lost(error), flush=True)
os._exit(0)
"""


def test_a_process_that_is_gone_is_an_error_of_the_next_request_and_no_traceback(tmp_path: Path) -> None:
    # gloo's own lines, which begin with a bracket, are not ours.
    said = [line for line in together(tmp_path, GONE, 2)[0].splitlines() if not line.startswith("[")]
    assert said == ["lost True"]


def test_a_run_of_one_process_is_scored_by_two_with_the_same_scores(sslx_command: Any, tmp_path: Path) -> None:
    tiny = ["--epochs", "1", "--evaluators", "knn,linear,geometry", "--device", "cpu"]
    found = []
    for words in ["run", "-p", "simclr", *tiny, "--out", "run"], ["eval", "run", "--devices", "2"]:
        # Each computes the floors, the second one in parts.
        done = sslx_command(*words, XDG_CACHE_HOME=str(tmp_path / f"cache-{words[0]}"))
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / "run" / "results.json").read_text()))
    one, two = found
    assert {**one, "data": two["data"], "sha256": ""} == {**two, "sha256": ""}
