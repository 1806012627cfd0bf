"""Two processes compute what one does, and stop and resume like one."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GENERATIVE, SMALL, digest, together

from sslx.core.errors import CheckpointError
from sslx.core.files import sealed
from sslx.core.interfaces import Module
from sslx.core.training import checkpoint

ARGUMENTS = """
    run -p gedi --subset 100 --epochs 2 --batch-size 16 --devices 2 -e knn -o whole
    --set encoder.hidden=16 --set energy.chains=40 --set energy.steps=2
    --set train.log_every=1 --set train.checkpoint_steps=5 --evaluate-every 1 --set train.stop.by=knn
"""  # gedi, whose chains differ between processes


def test_a_run_of_two_processes_stops_and_resumes_exactly(sslx_command: Any, tmp_path: Path) -> None:
    first, second = together(tmp_path, f"from sslx.cli import main; main({ARGUMENTS.split()})", 2)
    assert "\ngedi " in first and "whole: trained" in first and not second  # one process prints
    path, _ = checkpoint.newest(tmp_path / "whole" / "checkpoints")
    assert path is not None and (path / "rank-1.pt").exists()

    # As if it had been killed between the checkpoint at step 10 and the end.
    before, log = digest(tmp_path / "whole"), (tmp_path / "whole" / "metrics.jsonl").read_text()
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    ranks = [torch.load(path / f"rank-{rank}.pt", weights_only=True)["energy.buffer"] for rank in (0, 1)]
    assert not torch.equal(*ranks)
    for child in path.iterdir():
        child.unlink()
    path.rmdir()
    (tmp_path / "whole" / "results.json").unlink()
    assert sslx_command("resume", "whole").returncode == 0
    assert digest(tmp_path / "whole") == before
    for rank, chains_of in enumerate(ranks):
        assert torch.equal(torch.load(path / f"rank-{rank}.pt", weights_only=True)["energy.buffer"], chains_of)
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == log
    assert json.loads((tmp_path / "whole" / "results.json").read_text()) == results


SUMMED = """
import time
from sslx.cli import main
from sslx.core.training.engine import Engine

def timed(self, fit=Engine.fit):
    begun = time.process_time()
    fit(self)
    print("spent", time.process_time() - begun)

Engine.fit = timed
main("run -p vae --subset 400 --epochs 9999 --cpu-seconds 2 --batch-size 16 -e knn -o run".split())
"""


def test_a_budget_of_processor_time_is_that_of_all_processes_together(tmp_path: Path) -> None:
    spent = [float(said.split("spent ")[1].split()[0]) for said in together(tmp_path, SUMMED, 2)]
    recorded = json.loads((tmp_path / "run" / "training.json").read_text())["cpu_seconds"]
    assert recorded >= 2.0 and max(spent) < recorded <= sum(spent)


HANGING = """
import os
import signal
from datetime import timedelta
from sslx.cli import main
from sslx.core.team import Team
from sslx.core.training import runtime
from sslx.core.training.engine import Engine

runtime.LIMIT = timedelta(seconds=5)

def gone(act, due):
    def instead(self, *arguments):
        if due(self) and os.environ["RANK"] == "THE_RANK":
            os.kill(os.getpid(), signal.THE_SIGNAL)
        return act(self, *arguments)
    return instead

if "THE_MOMENT" == "training":
    Engine.update = gone(Engine.update, lambda engine: engine.step == 3)
else:
    Team._THE_MOMENT = gone(Team._THE_MOMENT, lambda team: True)
main("run -p vae --subset 400 --epochs 2 -e knn --batch-size 16 --set train.log_every=1 -o run".split())
"""


@pytest.mark.parametrize(
    ("hanging", "moment", "number"),
    [
        (0, "training", "SIGSTOP"),
        (1, "each_here", "SIGKILL"),
        *(
            [(1, "training", "SIGSTOP"), (1, "encode_here", "SIGSTOP"), (0, "encode_here", "SIGKILL")]
            if os.environ.get("SSLX_LONG")
            else []
        ),
    ],
)
def test_nothing_waits_longer_than_the_limit_for_a_process_that_hangs_or_is_gone(
    hanging: int, moment: str, number: str, tmp_path: Path
) -> None:
    """Started as by torchrun, where nobody else looks after the processes."""
    script = HANGING.replace("THE_RANK", str(hanging)).replace("THE_MOMENT", moment).replace("THE_SIGNAL", number)
    code = [sys.executable, "-c", script]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    children = [
        subprocess.Popen(
            code, cwd=tmp_path, env={**os.environ, **group, "RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    try:
        _, said = children[1 - hanging].communicate(timeout=120)
        assert children[1 - hanging].returncode == 1
        (line,) = lines(said)
        who = "" if hanging else "process 1: "
        assert line == f"sslx: {who}another process of run is gone; `sslx resume run` continues"
        results = tmp_path / "run" / "results.json"
        assert not results.exists() or "failed" not in results.read_text()  # which `resume` would leave as it is
    finally:
        children[hanging].kill()
        children[hanging].communicate()


@pytest.mark.parametrize("gone", [0, 1])
def test_a_process_that_is_gone_while_a_run_is_evaluated_again_is_one_line(
    gone: int, tiny_run: Any, tmp_path: Path
) -> None:
    tiny_run("vae", "run")
    script = (
        HANGING.replace("THE_RANK", str(gone)).replace("THE_MOMENT", "encode_here").replace("THE_SIGNAL", "SIGKILL")
    )
    script = re.sub('main.".*', 'main("eval run -e knn".split())', script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, **group, "RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [each.communicate(timeout=120)[1] for each in both][1 - gone]
    assert lines(said) == [f"sslx: {'' if gone else 'process 1: '}another process of this launch is gone"]


PHASES = """
import multiprocessing
import os
import signal
import socket
import sslx
import sslx.api
import torch
import torch._dynamo  # which torch imports for several processes: once here, not in each of them
from conftest import SMALL, TINY
from sslx.core import signals
from sslx.core.dotted import merge
from sslx.core.errors import Interrupted
from sslx.core.training.engine import Engine
from sslx.core.training.runtime import Runtime

TRAIN = {"epochs": 3, "batch_size": 24, "optimizer": {"use": "sgd", "lr": 1e-2}}
update = Engine.update

class Pairs(sslx.api.Dataset):
    "Pairs of equal patterns."

    def load(self, folder, offline):
        x = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(120) % 6 // 2
        return (sslx.api.Split(x[labels], labels, arity=2),) * 2

DATA = {"nesy": Pairs(), "colorization": {"use": "stand-in", "size": 8}}

def begin(name, out):
    own = {"method": SMALL[name], "train": TRAIN, "views": {"backend": "torch"}}
    sslx.run(name, out=out, **merge(TINY, own, {"dataset": DATA[name]} if name in DATA else {}))

def phase(rank, world, stop, port):
    if world > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), **address}

    def until(self, *arguments):
        if self.step + 1 == stop:
            signals._received = signal.SIGTERM
        return update(self, *arguments)

    Engine.update = until
    for name in NAMES:
        try:
            begin(name, name) if stop == 3 else sslx.resume(name, objects=[Pairs])
        except Interrupted:
            signals._received = None
    Runtime.leave(0)

fork = multiprocessing.get_context("fork")
for world, stop in (2, 3), (1, 6), (4, 9), (2, 0):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    members = [fork.Process(target=phase, args=(rank, world, stop, port)) for rank in range(world)]
    for member in members:
        member.start()
    for member in members:
        member.join()
        assert member.exitcode == 0
for name in NAMES:
    begin(name, f"{name}-alone")
"""


NOISY = {*GENERATIVE, "jigsaw", "jem", "gedi", "gedi-no-inv", "gedi-no-prior", "gedi-two-stage", "ebclr"} - {
    "ae",
    "aaae",
}


def test_a_run_continues_with_any_number_of_processes(tmp_path: Path) -> None:
    """With 2, 1, 4 and 2 of them the losses are those of one process to 1e-4, or in law where a method draws numbers.

    With SSLX_LONG=1 for every method, which takes two minutes.
    """
    names = [*SMALL] if os.environ.get("SSLX_LONG") else ["vicreg", "moco", "swav", "gedi"]
    (said,) = together(tmp_path, PHASES.replace("NAMES", repr(names)), 1)
    for name in names:
        changes = [line for line in said.splitlines() if line.startswith(f"{name}: continues with ")]
        assert [change.split()[3] for change in changes] == ["one", "4", "2"]
        has_chains = "energy" in SMALL[name]
        assert all(change.endswith("energy.buffer is divided among them") is has_chains for change in changes)
        disturbed, alone = (
            {record["step"]: record["loss"] for record in map(json.loads, path.read_text().splitlines())}
            for path in (tmp_path / name / "metrics.jsonl", tmp_path / f"{name}-alone" / "metrics.jsonl")
        )
        assert list(disturbed) == list(range(1, 13))
        size = max(map(abs, alone.values()))
        assert disturbed == pytest.approx(alone, abs=0.2 * size + 0.01 if name in NOISY else 1e-4 * size), name


class Scattered(Module):
    divisible = ("chains",)

    def local_state(self) -> dict[str, torch.Tensor]:
        return self.state

    def load_local_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.state = dict(state)


def test_rows_are_divided_in_order_and_other_state_is_refused_by_name(tmp_path: Path) -> None:
    def written(**more: torch.Tensor) -> Path:
        """A checkpoint of two processes, whose chains are 0, 1, 2 and 10, 11, 12."""
        draft = tmp_path / "step-000000001"
        draft.mkdir(exist_ok=True)
        torch.save({"method": {}, "step": 1, "complete": False}, draft / "shared.pt")
        for rank in (0, 1):
            torch.save({"chains": torch.arange(3) + 10 * rank, **more}, draft / f"rank-{rank}.pt")
        (draft / "manifest.json").write_text(sealed({"format": 1, "step": 1, "world": 2, "files": {}}))
        return draft

    def filled(path: Path, rank: int, world: int) -> list[int]:
        made = Scattered()
        checkpoint.fill(made, path, rank, world)
        return made.state["chains"].tolist()

    path = written()
    assert [filled(path, rank, 2) for rank in range(2)] == [[0, 1, 2], [10, 11, 12]]
    assert filled(path, 0, 1) == [0, 1, 2]
    assert [filled(path, rank, 3) for rank in range(3)] == [[0, 1, 2], [2, 10, 11], [11, 12, 0]]
    with pytest.raises(
        CheckpointError, match="counter belongs to one of 2 processes .* resume the run with --devices 2"
    ):
        filled(written(counter=torch.tensor(0)), 0, 1)


RUN = (
    "run",
    "-p",
    "vae",
    "--subset",
    "400",
    "--epochs",
    "9999",
    "--batch-size",
    "32",
    "--devices",
    "2",
    "--out",
    "run",
)


def begun(folder: Path) -> subprocess.Popen[str]:
    """A run of two processes that has trained some steps."""
    command = [sys.executable, "-m", "sslx", *RUN, "--set", "train.log_every=1"]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return child


def lines(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if not line.startswith("epoch ")]


def test_two_processes_that_are_stopped_say_one_line_and_exit_75(tmp_path: Path) -> None:
    child = begun(tmp_path)
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 75 and not output
    (line,) = lines(errors)
    assert line.startswith("sslx: stopped by SIGINT at step ") and line.endswith("`sslx resume run` continues it")


def test_a_killed_process_is_one_line_that_names_the_command_to_go_on(tmp_path: Path) -> None:
    child = begun(tmp_path)
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(int(workers[1]), signal.SIGKILL)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 1
    assert lines(errors) == [
        "sslx: process 1 was ended by SIGKILL, as systems do when memory runs out; `sslx resume run` continues"
    ]


def test_a_mistake_with_several_processes_is_that_of_one(sslx_command: Any, tiny_run: Any, tmp_path: Path) -> None:
    done = sslx_command("run", "-p", "vae", "--subset", "60", "--devices", "2", "--batch-size", "15", "--out", "run")
    assert done.returncode == 2
    assert done.stderr == "sslx: train.batch_size: expected a multiple of 2, the number of processes, got 15\n"
    assert not (tmp_path / "run").exists()
    run = tiny_run("vae", "made")
    (run.path / "results.json").unlink()
    done = sslx_command("resume", "made", "--devices", "3")
    assert done.returncode == 2
    assert done.stderr == "sslx: train.batch_size: expected a multiple of 3, the number of processes, got 16\n"
