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


# All of them with SSLX_SLURM=long, which takes some minutes.
@pytest.mark.parametrize("how", ["kill", *(["signal", "requeue"] if os.environ.get("SSLX_SLURM") == "long" else [])])
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


def test_the_tasks_of_an_array_share_a_grid(cluster: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "array.sh"
    run = RUN.format(epochs=1, out="g").replace("--plugin vae", "--plugin vae,simvae --seed 0,1,2")
    script.write_text(f"#!/bin/bash\n#SBATCH --array=0-1 --output=array-%a.log\nsrun {SSLX} {run}\n")
    cluster.run("sbatch", "--wait", str(script), cwd=tmp_path)
    said = [(tmp_path / f"array-{task}.log").read_text() for task in range(2)]
    assert len(list((tmp_path / "g").glob("*/results.json"))) == 6, said
    begun = [re.findall(r"run \d of 6: (\S+)", each) for each in said]
    assert len(set(begun[0] + begun[1])) == len(begun[0] + begun[1]) == 6 and all(begun)
