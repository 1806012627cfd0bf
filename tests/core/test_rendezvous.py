"""Processes find each other, also where the store remembers others that are gone, and under torchrun that restarts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from conftest import digest

from sslx.core.errors import Interrupted, LostError
from sslx.core.training.rendezvous import _round

SECOND = timedelta(seconds=1)
RUN = """
    run -p vae --subset 256 --epochs 30 -e knn --set encoder.hidden=16 --set decoder.hidden=16 --device cpu
    --set train.log_every=1 --set train.checkpoint_minutes=0.001 --out
"""


def rounds(store: Any, ranks: list[int], world: int, limit: timedelta = 30 * SECOND) -> dict[int, str | LostError]:
    """What processes of these ranks agree on, each of them a thread."""
    found: dict[int, str | LostError] = {}

    def join(rank: int) -> None:
        try:
            found[rank] = _round(store, rank, world, limit)
        except LostError as error:
            found[rank] = error

    threads = [threading.Thread(target=join, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_processes_agree_on_a_round_of_their_own_whatever_the_store_remembers() -> None:
    store = dist.HashStore()
    known = set[str | LostError]()
    for world in (3, 3, 2):
        names = rounds(store, list(range(world)), world)
        assert len(names) == world and len(set(names.values())) == 1
        assert not known & set(names.values())
        known |= set(names.values())
    # Process 1 is lost before it comes; what it said earlier does not count.
    assert all(isinstance(each, LostError) for each in rounds(store, [0], 2, SECOND).values())
    assert all(isinstance(each, LostError) for each in rounds(store, [1], 2, SECOND).values())
    assert len(set(rounds(store, [0, 1], 2).values())) == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_waits_for_others_stops_when_it_is_told_to(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslx.core.signals._received", signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM before the other processes"):
        _round(dist.HashStore(), rank, 2, 300 * SECOND)


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def torchrun(folder: Path, out: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "sslx", *RUN.split(), out]
    with (folder / f"{out}.log").open("ab") as log:
        more = {"OMP_NUM_THREADS": "1", **environment}
        return subprocess.Popen(command, cwd=folder, env={**os.environ, **more}, stdout=log, stderr=log)


def waited(log: Path, steps: int) -> None:
    until = time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") >= steps):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in two processes that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "sslx", *RUN.split(), "whole", "--devices", "2"]
    subprocess.run(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=240)
    return folder / "whole"


@pytest.mark.parametrize("rank", [1, *([0] if os.environ.get("SSLX_LONG") else [])])
def test_torchrun_starts_lost_workers_again_and_the_run_ends_as_if_nothing_had_been(
    rank: int, whole: Path, tmp_path: Path
) -> None:
    agent = torchrun(tmp_path, "run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2")
    waited(tmp_path / "run" / "metrics.jsonl", 20)
    os.kill(children(agent.pid)[rank], signal.SIGKILL)
    assert agent.wait(timeout=180) == 0, (tmp_path / "run.log").read_text()
    assert "run: continues at step " in (tmp_path / "run.log").read_text()
    assert digest(tmp_path / "run") == digest(whole)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.skipif(not os.environ.get("SSLX_LONG"), reason="takes a minute; SSLX_LONG=1 runs it")
def test_an_agent_that_is_killed_with_its_worker_is_replaced(whole: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    common = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3", "--rdzv-backend", "c10d"]
    common += ["--rdzv-id", "x", "--rdzv-endpoint", endpoint, "--local-addr", "127.0.0.1"]
    own = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # see docs/howto/clusters.md
    agents = [
        torchrun(tmp_path, "run", *common, "--rdzv-conf", f"is_host={int(host)}", **own) for host in (True, False)
    ]
    waited(tmp_path / "run" / "metrics.jsonl", 20)
    for lost in (agents[1].pid, *children(agents[1].pid)):
        os.kill(lost, signal.SIGKILL)
    agents[1].wait()
    agents[1] = torchrun(tmp_path, "run", *common, "--rdzv-conf", "is_host=0", **own)
    assert [agent.wait(timeout=240) for agent in agents] == [0, 0], (tmp_path / "run.log").read_text()
    assert digest(tmp_path / "run") == digest(whole)


def test_a_process_that_does_not_find_the_others_says_why_in_one_line(tmp_path: Path) -> None:
    """Process 0 is gone before the other one comes, or has another address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    code = "from datetime import timedelta; from sslx.core.training import runtime; from sslx.cli import main"
    code += f"; runtime.LIMIT = timedelta(seconds=3); main({RUN.split()} + ['x'])"
    more = {**os.environ, **address, "WORLD_SIZE": "2", "RANK": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=more, capture_output=True, text=True)
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("sslx: ")]  # torch has lines of its own
    assert done.returncode == 1
    assert said.startswith("sslx: process 1: the processes of this launch did not all find each other: The client")
