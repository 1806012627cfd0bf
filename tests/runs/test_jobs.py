"""Runs carried out by several processes at once: they equal those of one process, and no end of a process loses any."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from conftest import digest
from filelock import FileLock
from test_grid import launch, same, wait_for
from test_studies import of, write

from sslx.core import signals
from sslx.core.errors import Interrupted
from sslx.runs.jobs import Attempt, Failure, at_once
from sslx.runs.workers import shared

Command = Callable[..., tuple[int, str, str]]
RUNS = [f"Mine-encoder.dim={dim}-seed={seed}" for dim in (2, 3) for seed in (0, 1)]
MINE = """
import os, signal, time
from contextlib import suppress
from sslx.core import signals
from sslx.families.vae import VAE

class Mine(VAE):
    def after_step(self, step):
        if step == 0:
            print("first step")
            with open("begun", "a") as file:
                file.write(f"{self.encoder.dim} {os.getpid()}\\n")
        with suppress(FileNotFoundError):
            os.remove("bad")  # the first one does
            os.kill(os.getpid(), signal.SIGKILL)
        while os.path.exists("stuck") or step == 2 and os.path.exists("slow") and not signals.received():
            time.sleep(0.01)
"""


def sweep(folder: Path, epochs: int) -> None:
    """A sweep of `RUNS`, whose method says where it trains, and ends its process if it is told to."""
    (folder / "mine.py").write_text(MINE)
    (folder / "sweep.toml").write_text(
        'method = { use = "./mine.py:Mine", decoder.hidden = [16], encoder.hidden = [16] }\nsubset = 64\n'
        f'evaluators = ["knn"]\n[train]\nepochs = {epochs}\nlog_every = 1\n'
        '[grid]\n"encoder.dim" = [2, 3]\nseed = [0, 1]\n'
    )


def begun(folder: Path) -> list[list[str]]:
    """Dimension and process of each training that has begun."""
    return [line.split() for line in (folder / "begun").read_text().splitlines()]


def test_runs_at_once_equal_those_one_after_another_and_each_is_carried_out_once(
    command: Command, tmp_path: Path
) -> None:
    sweep(tmp_path, epochs=4)
    assert command("run", "--sweep", "sweep.toml", "--device", "cpu", "--out", "one")[0] == 0
    (tmp_path / "begun").unlink()
    child = launch(tmp_path, "run", "--sweep", "sweep.toml", "--device", "cpu", "--out", "two", "--jobs", "2")
    out, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors
    assert all(same(tmp_path / "one" / name, tmp_path / "two" / name) for name in RUNS)
    assert sorted(dim for dim, _ in begun(tmp_path)) == ["2", "2", "3", "3"]
    assert len({process for _, process in begun(tmp_path)} - {str(child.pid)}) == 2
    # One process says which run begins and prints the table; what the others print has the name of their run.
    starts = [line for line in errors.splitlines() if line.startswith("run ")]
    assert sorted(starts) == [f"run {number} of 4: {name}" for number, name in enumerate(RUNS, 1)]
    assert sorted(line for line in out.splitlines() if line.endswith(": first step")) == [
        f"{name}: first step" for name in RUNS
    ]
    assert all(line.startswith(("run ", *(f"{name}: " for name in RUNS))) for line in errors.splitlines())
    assert out.endswith("two: 4 of 4 runs are finished\n") and out.count("Representations of digits") == 1


def test_a_run_whose_process_is_killed_is_a_line_and_the_rest_goes_on(command: Command, tmp_path: Path) -> None:
    sweep(tmp_path, epochs=2)
    (tmp_path / "bad").touch()
    child = launch(tmp_path, "run", "--sweep", "sweep.toml", "--device", "cpu", "--out", "g", "--jobs", "2")
    out, errors = child.communicate(timeout=240)
    assert child.returncode == 1 and "g: 3 of 4 runs are finished" in out
    (dead,) = json.loads((tmp_path / "g" / "failed.json").read_text())
    last = (
        f"sslx: {dead} failed: its process was ended by SIGKILL, as systems do when memory runs out; fewer --jobs need "
        "less; details in g/failed.json"
    )
    assert errors.splitlines()[-1] == last and errors.count("sslx: ") == 1 and "Traceback" not in errors
    assert sorted(dim for dim, _ in begun(tmp_path)) == ["2", "2", "3", "3"]  # nobody tries it again
    assert len({process for _, process in begun(tmp_path)}) == 3
    code, out, errors = command("resume", "g", "--trust-code")
    assert code == 0 and "g: 4 of 4 runs are finished" in out and len(begun(tmp_path)) == 5
    assert json.loads((tmp_path / "g" / "failed.json").read_text()) == {}


def alive(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


SAME = ["run", "--sweep", "sweep.toml", "--device", "cpu", "--out", "g"]


@pytest.mark.parametrize(
    ("how", "again"),
    [
        ("SIGTERM", [*SAME, "--jobs", "2"]),
        ("Ctrl-C", ["resume", "g", "--trust-code", "--jobs", "2"]),
        ("SIGKILL", SAME),
    ],
)
def test_all_processes_end_with_the_one_that_started_them_and_the_runs_go_on(
    how: str, again: list[str], tmp_path: Path
) -> None:
    sweep(tmp_path, epochs=4)
    (tmp_path / "slow").touch()
    child = subprocess.Popen(
        [sys.executable, "-m", "sslx", *SAME, "--jobs", "2"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for name in RUNS[:2]:
        wait_for(tmp_path / "g" / name / "metrics.jsonl", child)
    processes = {json.loads((tmp_path / "g" / name / "lock.json").read_text())["pid"] for name in RUNS[:2]}
    assert len(processes) == 2
    if how == "Ctrl-C":
        os.killpg(child.pid, signal.SIGINT)  # a terminal sends it to all
    else:
        child.send_signal(signal.Signals[how])
    _, errors = child.communicate(timeout=60)
    if how == "SIGKILL":
        assert child.returncode == -9
        until = time.monotonic() + 60
        while any(map(alive, processes)) and time.monotonic() < until:
            time.sleep(0.01)
    else:
        name = "SIGINT" if how == "Ctrl-C" else how
        assert child.returncode == 75
        last = f"sslx: stopped by {name}; 0 of 4 runs are finished; `sslx resume g` continues"
        assert [line for line in errors.splitlines() if "stopped" in line] == [last] and "Traceback" not in errors
    assert not any(map(alive, processes))
    assert not any((tmp_path / "g" / name).exists() for name in RUNS[2:])
    (tmp_path / "slow").unlink()
    child = launch(tmp_path, *again)
    out, errors = child.communicate(timeout=240)
    assert child.returncode == 0 and "g: 4 of 4 runs are finished" in out, errors
    assert all(re.search(rf"g/{name}: continues at step [123] of 4", errors) for name in RUNS[:2])
    assert sorted(dim for dim, _ in begun(tmp_path)) == ["2", "2", "3", "3"]


def test_a_second_interrupt_ends_all_at_once(tmp_path: Path) -> None:
    sweep(tmp_path, epochs=2)
    (tmp_path / "stuck").touch()
    child = launch(tmp_path, "run", "--sweep", "sweep.toml", "--device", "cpu", "--out", "g", "--jobs", "2")
    wait_for(tmp_path / "begun", child)
    for name in RUNS[:2]:
        wait_for(tmp_path / "g" / name / "lock.json", child)
    processes = {json.loads((tmp_path / "g" / name / "lock.json").read_text())["pid"] for name in RUNS[:2]}
    child.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in errors and not any(map(alive, processes))


def test_whoever_waits_for_other_processes_hears_a_stop_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_received", signal.SIGTERM)
    with FileLock(tmp_path / ".a.lock"), pytest.raises(Interrupted, match="stopped by SIGTERM"):
        list(shared(tmp_path, {"a": "a"}, lambda name: False))


def threads(*arguments: str) -> Failure:
    """What a process has to itself."""
    return {"threads": str(torch.get_num_threads()), "device": os.environ["LOCAL_RANK"], "pid": str(os.getpid())}


@pytest.mark.parametrize("given", ["", "2"])
def test_processes_divide_cores_and_devices(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    found = list[Failure]()

    def work(attempt: Attempt) -> None:
        found.append(attempt("name", threads) or {})

    at_once(2, work)
    assert {each["device"] for each in found} == {"0", "1"} and len({each["pid"] for each in found}) == 2
    assert [each["threads"] for each in found] == [given or "1"] * 2


def test_a_study_at_once_has_the_scores_of_one_run_after_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "mine.toml", **{"seeds = 3": "seeds = 2"})
    bad = file.read_text().replace(
        'options = { method = "random" }', 'options = { method = "random", dataset = "mnist" }'
    )
    file.write_text(bad)
    one, two = (of(file, "cpu", tmp_path / name) for name in ("one", "two"))
    assert len(one.carry_out()) == 2 and capsys.readouterr()
    failed = two.carry_out(jobs=2)
    assert len(failed) == 2 and all("failed: DataError: " in line for line in failed)
    assert capsys.readouterr().err.count("failed: DataError") == 2  # nobody tries it again
    for task in one.tasks:
        if task.row.name == "Second":
            assert digest(tmp_path / "one" / task.name) == digest(tmp_path / "two" / task.name)
    values = [[cell.values for cell in study.cells()] for study in (one, two)]
    assert values[0] == values[1] and any(len(each) == 2 for each in values[0])


SLURM = {
    "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "here",
    "SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0",
}  # fmt: skip


SEVERAL = ["--seed", "0,1"]
JOBS, SLURMS = ["--jobs", "2"], ["--launcher", "slurm"]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (JOBS, {}, "--jobs: one run: nothing to share"),
        ([*SEVERAL, *JOBS, "--devices", "2"], {}, "--jobs: expected one process for each run, got 2"),
        ([*SEVERAL, *JOBS], {"RANK": "0", "WORLD_SIZE": "2"}, "expected a process without a launcher"),
        ([*SEVERAL, *JOBS], SLURM, "expected a process without a launcher"),
        (SLURMS, {}, "--launcher: one run"),
        ([*SEVERAL, *SLURMS], SLURM, "--launcher: expected a process without a launcher"),
        ([*SEVERAL, "--launcher", "lsf"], {}, "--launcher lsf: expected slurm"),
        ([*SEVERAL, "--launcher", "slurm gpu"], {}, "expected options of sbatch, such as --partition=gpu, got gpu"),
        ([*SEVERAL, "--launcher", "slurm 'a"], {}, "--launcher slurm 'a: no closing quotation"),
    ],
)
def test_what_cannot_be_shared_or_submitted_is_refused_in_one_line(
    arguments: list[str],
    environment: dict[str, str],
    message: str,
    sslx_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    done = sslx_command("run", "-p", "random", *arguments, "--out", "g", **environment)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "g").exists()


def test_no_job_and_jobs_for_one_run_are_refused(command: Command) -> None:
    code, _, errors = command("run", "-p", "random", "--seed", "0,1", "--jobs", "0")
    assert code == 2 and "'--jobs': 0 is not in the range x>=1" in errors and len(errors.splitlines()) == 1
    tiny = ["--subset", "64", "--epochs", "0", "-e", "knn", "--out", "run"]
    assert command("run", "-p", "random", *tiny, "--jobs", "1")[0] == 0
    code, _, errors = command("resume", "run", "--jobs", "2")
    assert code == 2 and "--jobs: one run: nothing to share" in errors and len(errors.splitlines()) == 1
