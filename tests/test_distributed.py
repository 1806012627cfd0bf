"""Two processes compute what one does, and stop and resume like one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from conftest import digest

from sslx.core import checkpoint

SCRIPT = """
import sys
import torch
import sslx.api
from sslx.api import Context, Views
from sslx.core.config import configure
from sslx.core.runtime import Runtime

runtime = Runtime.start("cpu")
method = configure({"method": {"use": "simclr", "projector": [], "encoder": {"hidden": [16]}}}).method
torch.manual_seed(0)
method.build(Context((1, 8, 8), 100))
x = torch.rand(8, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
n = 8 // runtime.world
x = x[runtime.rank * n : (runtime.rank + 1) * n]
wrapped = runtime.wrap(method)  # kept: without it nobody would reduce the gradients
terms = wrapped(Views(x, x[:, 0], torch.arange(n)))
terms.total.backward()
if runtime.main:
    grads = {name: w.grad for name, w in method.named_parameters()}
    torch.save({"loss": terms.total.detach(), "grads": grads}, sys.argv[1])
runtime.leave(0)
"""


def launch(tmp_path: Path, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in several processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    children = [
        subprocess.Popen(
            [sys.executable, *arguments], cwd=tmp_path, env={**shared, "RANK": str(r), "LOCAL_RANK": str(r)}
        )
        for r in range(processes)
    ]
    for child in children:
        child.wait(timeout=240)
    return subprocess.CompletedProcess(arguments, max(child.returncode for child in children))


def test_two_processes_have_the_gradient_of_one_with_the_joined_batch(tmp_path: Path) -> None:
    (tmp_path / "gradient.py").write_text(SCRIPT)
    for processes in (1, 2):
        launch(tmp_path, "gradient.py", f"{processes}.pt", processes=processes)
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    torch.testing.assert_close(one["loss"], two["loss"])
    for name, gradient in one["grads"].items():
        torch.testing.assert_close(two["grads"][name], gradient, msg=name)


def test_a_run_of_two_processes_stops_and_resumes_exactly(sslx_command: Any, tmp_path: Path) -> None:
    arguments = [
        "-p",
        "gedi",  # whose chains differ between processes
        "--subset",
        "100",
        "--epochs",
        "2",
        "--devices",
        "2",
        "-e",
        "knn",
        "--batch-size",
        "16",
    ]
    chains = ["--set", "energy.chains=40", "--set", "energy.steps=2"]
    small = ["--set", "encoder.hidden=16", "--set", "train.log_every=1", *chains]
    whole = sslx_command("run", *arguments, *small, "--set", "train.checkpoint_steps=5", "-o", "whole")
    assert whole.returncode == 0, whole.stderr
    assert "\ngedi " in whole.stdout and whole.stdout.count("whole: trained") == 1  # one process prints
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
    alone = sslx_command("resume", "whole", "--devices", "1")
    assert alone.returncode == 1 and "resume it with --devices 2" in alone.stderr
    assert sslx_command("resume", "whole").returncode == 0
    assert digest(tmp_path / "whole") == before
    for rank, chains_of in enumerate(ranks):
        assert torch.equal(torch.load(path / f"rank-{rank}.pt", weights_only=True)["energy.buffer"], chains_of)
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == log
    assert json.loads((tmp_path / "whole" / "results.json").read_text()) == results
