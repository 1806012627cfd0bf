"""Runs under a real Slurm: two tasks are one run, and a job that is stopped or killed ends as if it had not been."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing
from conftest import digest

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
SSLX = f"{sys.executable} -m sslx"
RUN = (
    "run --plugin vae --subset 256 --epochs {epochs} --evaluators knn --set encoder.hidden=16 --set decoder.hidden=16 "
    "--set train.log_every=1 --set train.checkpoint_minutes=0.001 --device cpu --out {out}"
)
JOB = """\
#!/bin/bash
#SBATCH --ntasks=2 --requeue --open-mode=append --output=job.log
srun {sslx} {run}
code=$?
if [ $code = 75 ]; then scontrol requeue $SLURM_JOB_ID; fi
exit $code
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    cluster.environment["OMP_NUM_THREADS"] = "1"
    yield cluster
    cluster.stop()


def waited(condition: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    assert condition()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in two processes without Slurm, which nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    words = f"{SSLX} {RUN.format(epochs=60, out='whole')} --devices 2".split()
    subprocess.run(words, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=240)
    return folder / "whole"


def test_two_tasks_are_one_run(cluster: Cluster, tmp_path: Path, whole: Path) -> None:
    said = cluster.run("srun", "--ntasks=2", *SSLX.split(), *RUN.format(epochs=60, out="s").split(), cwd=tmp_path)
    assert len(re.findall(r"^s: trained", said, re.MULTILINE)) == 1, said  # one of the two speaks
    assert digest(tmp_path / "s") == digest(whole)
    assert (tmp_path / "s" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    said = cluster.run("srun", "--ntasks=2", *SSLX.split(), "run", "-p", "vea", cwd=tmp_path)
    assert len(re.findall("there is no method 'vea'", said)) == 1 and "Traceback" not in said


LONG = os.environ.get("SSLX_SLURM") == "long"  # all tests, which takes some minutes


@pytest.mark.parametrize("how", ["kill", *(["signal", "requeue"] if LONG else [])])
def test_a_job_that_is_disturbed_ends_like_one_that_is_not(
    how: str, cluster: Cluster, tmp_path: Path, whole: Path
) -> None:
    script = tmp_path / "job.sh"
    script.write_text(JOB.format(sslx=SSLX, run=RUN.format(epochs=60, out="s")))
    job = cluster.run("sbatch", "--parsable", str(script), cwd=tmp_path).strip()
    run = tmp_path / "s"
    waited(lambda: any((run / "checkpoints").glob("step-*")) if (run / "checkpoints").exists() else False)
    if how == "signal":  # as --signal=TERM@120 and preemption send it
        cluster.run("scancel", "--signal=TERM", job)
    elif how == "requeue":
        cluster.run("scontrol", "requeue", job)
    else:
        (first, *_) = subprocess.run(["pgrep", "-f", f"sslx {RUN.format(epochs=60, out='s')}"[:60]],
                                     capture_output=True, text=True).stdout.split()  # fmt: skip
        subprocess.run(["kill", "-9", first], check=True)
        waited(lambda: "JobState=FAILED" in cluster.run("scontrol", "show", "job", job))
        cluster.run("scontrol", "requeue", job)
    assert not (run / "results.json").exists()
    waited(lambda: (run / "results.json").exists(), 200)
    waited(lambda: "JobState=COMPLETED" in cluster.run("scontrol", "show", "job", job))
    assert digest(run) == digest(whole), (tmp_path / "job.log").read_text()
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.skipif(not LONG, reason="SSLX_SLURM=long also shares a grid among the tasks of an array")
def test_the_tasks_of_an_array_share_a_grid(cluster: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "array.sh"
    run = RUN.format(epochs=1, out="g").replace("--plugin vae", "--plugin vae,simvae --seed 0,1,2")
    script.write_text(f"#!/bin/bash\n#SBATCH --array=0-1 --output=array-%a.log\nsrun {SSLX} {run}\n")
    cluster.run("sbatch", "--wait", str(script), cwd=tmp_path)
    said = [(tmp_path / f"array-{task}.log").read_text() for task in range(2)]
    assert len(list((tmp_path / "g").glob("*/results.json"))) == 6, said
    begun = [re.findall(r"run \d of 6: (\S+)", each) for each in said]
    assert len(set(begun[0] + begun[1])) == len(begun[0] + begun[1]) == 6 and all(begun)


def test_a_sweep_is_an_array_and_equals_the_one_without_slurm(cluster: Cluster, tmp_path: Path) -> None:
    sweep = [*SSLX.split(), *RUN.format(epochs=1, out="s").replace("vae", "vae,simvae --seed 0,1,2", 1).split()]
    said = cluster.run(*sweep, "--launcher", "slurm --wait", cwd=tmp_path)
    assert "submitted to Slurm: 6 runs;" in said and "s: 6 of 6 runs are finished" in said
    subprocess.run([*sweep[:-1], "one"], cwd=tmp_path, env=cluster.environment, check=True)
    runs = sorted(path.parent.name for path in (tmp_path / "s").glob("*/results.json"))
    assert len(runs) == 6 and all(digest(tmp_path / "s" / run) == digest(tmp_path / "one" / run) for run in runs)
    assert "submitted" not in cluster.run(*sweep, "--launcher", "slurm", cwd=tmp_path)


def test_runs_in_the_queue_are_not_submitted_twice_and_one_that_is_killed_is_a_line(
    cluster: Cluster, tmp_path: Path
) -> None:
    sweep = [*SSLX.split(), *RUN.format(epochs=1500, out="s").split(), "--seed", "0,1"]
    sweep += ["--set", "train.checkpoint_minutes=0.02"]
    waiting = [*sweep, "--launcher", "slurm --wait", "--jobs", "1"]
    first = subprocess.Popen(waiting, cwd=tmp_path, env=cluster.environment, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "s" / "vae-seed=0"
    waited(lambda: (run / "checkpoints").exists() and any((run / "checkpoints").glob("step-*")))
    assert not (tmp_path / "s" / "vae-seed=1").exists()  # one at a time
    said = cluster.run(*sweep, "--launcher", "slurm", cwd=tmp_path)
    assert "already in the queue of Slurm: 2 runs" in said and "submitted" not in said
    assert not (run / "results.json").exists()
    processes = subprocess.run(["pgrep", "-f", f"sslx resume {run}"], capture_output=True, text=True).stdout
    subprocess.run(["kill", "-9", *processes.split()], check=True)
    _, errors = first.communicate(timeout=240)
    assert errors.splitlines()[-1] == "sslx: vae-seed=0: its task has ended; its output is in s/slurm-0.log"
    assert first.returncode == 1 and (tmp_path / "s" / "vae-seed=1" / "results.json").exists()
    said = cluster.run(*sweep, "--launcher", "slurm --time=wrong", cwd=tmp_path)
    assert "Invalid --time" in said and "Traceback" not in said
    refused = [each if each != "s" else "new" for each in sweep]
    said = cluster.run(*refused, "--launcher", "slurm --time=wrong", cwd=tmp_path)
    assert "Invalid --time" in said and not (tmp_path / "new").exists()  # nothing is in the way of other runs
    said = cluster.run(*refused, "--devices", "2", "--launcher", "slurm", cwd=tmp_path)
    assert "the processes of a run are tasks of Slurm: --launcher 'slurm --ntasks=2'" in said
    said = cluster.run(*sweep, "--launcher", "slurm --wait", cwd=tmp_path)
    assert "submitted to Slurm: 1 run, 1 of them begun before;" in said and "s: 2 of 2 runs are finished" in said
