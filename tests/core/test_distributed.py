"""Two processes compute what one does, and stop and resume like one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from conftest import digest, together

from sslx.core.training import checkpoint

ARGUMENTS = """
    run -p gedi --subset 100 --epochs 2 --batch-size 16 --devices 2 -e knn -o whole
    --set encoder.hidden=16 --set energy.chains=40 --set energy.steps=2
    --set train.log_every=1 --set train.checkpoint_steps=5 --evaluate-every 1 --set train.stop.by=knn
"""  # gedi, whose chains differ between processes


def test_a_run_of_two_processes_stops_and_resumes_exactly(sslx_command: Any, command: Any, tmp_path: Path) -> None:
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
    code, _, errors = command("resume", "whole", "--devices", "1")
    assert code == 1 and "resume it with --devices 2" in errors
    assert sslx_command("resume", "whole").returncode == 0
    assert digest(tmp_path / "whole") == before
    for rank, chains_of in enumerate(ranks):
        assert torch.equal(torch.load(path / f"rank-{rank}.pt", weights_only=True)["energy.buffer"], chains_of)
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == log
    assert json.loads((tmp_path / "whole" / "results.json").read_text()) == results


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


def test_a_mistake_with_two_processes_is_that_of_one(sslx_command: Any, tmp_path: Path) -> None:
    done = sslx_command("run", "-p", "vae", "--subset", "60", "--devices", "2", "--batch-size", "15", "--out", "run")
    assert done.returncode == 2
    assert done.stderr == "sslx: train.batch_size: expected a multiple of 2, the number of processes, got 15\n"
    assert not (tmp_path / "run").exists()
