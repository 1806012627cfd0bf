"""Ranks from the variables of Slurm and Open MPI. tests/slurm runs the real one."""

from __future__ import annotations

import os

import pytest

from sslx.cli import _report
from sslx.core.errors import ConfigError, SslxError
from sslx.core.launchers import first_host, join

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
STEP = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[08-09]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_CPUS_PER_TASK": "6",
}  # fmt: skip
MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
       "OMPI_COMM_WORLD_LOCAL_RANK": "1", "PMIX_NAMESPACE": "prterun-host-1@1"}  # fmt: skip


def joined(monkeypatch: pytest.MonkeyPatch, **given: str) -> dict[str, str]:
    for name in [*os.environ]:
        if name in TORCHRUN or name.startswith(("SLURM_", "OMPI_", "PMIX_")):
            monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    before = {name: os.environ.get(name) for name in TORCHRUN}
    join()
    found = {name: os.environ[name] for name in TORCHRUN if name in os.environ}
    for name, value in before.items():  # what `join` has set itself
        if value is None:
            os.environ.pop(name, None)
    return found


def test_a_step_of_slurm_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    found = joined(monkeypatch, **STEP)
    port = int(found.pop("MASTER_PORT"))
    assert found == {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu08", "OMP_NUM_THREADS": "6"}
    assert 12000 <= port < 32000 and joined(monkeypatch, **STEP, SLURM_NODEID="1")["MASTER_PORT"] == str(port)
    assert joined(monkeypatch, **{**STEP, "SLURM_JOB_ID": "8"})["MASTER_PORT"] != str(port)
    assert joined(monkeypatch, **STEP, MASTER_PORT="5", OMP_NUM_THREADS="2")["MASTER_PORT"] == "5"


def test_one_process_and_the_script_of_a_job_stay_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    script = {name: value for name, value in STEP.items() if "STEP" not in name} | {"SLURM_NTASKS": "4"}
    assert joined(monkeypatch, **script) == {} == joined(monkeypatch)
    assert joined(monkeypatch, **{**STEP, "SLURM_STEP_NUM_TASKS": "1"}) == {}
    assert joined(monkeypatch, **STEP, RANK="0", WORLD_SIZE="1") == {"RANK": "0", "WORLD_SIZE": "1"}


def test_open_mpi_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    found = joined(monkeypatch, **MPI)
    assert (found["RANK"], found["WORLD_SIZE"], found["MASTER_ADDR"]) == ("1", "2", "127.0.0.1")
    assert "MASTER_ADDR" not in joined(monkeypatch, **{**MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "1"})


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [(ConfigError("x: wrong"), "", 2), (SslxError("lost"), "", 1), (KeyError("x"), "sslx: process 1: ", 1)],
)
def test_other_processes_say_only_what_process_0_may_not_know(
    error: Exception, said: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SSLX_RENDEZVOUS", raising=False)
    monkeypatch.setenv("RANK", "1")
    assert _report(error) == code
    printed = capsys.readouterr().err
    assert printed.startswith(said) and printed.count("\n") == bool(said)
    monkeypatch.setenv("RANK", "0")
    assert _report(error) == code and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("vm", "vm"),
        ("node[01-03,07],gpu5", "node01"),
        ("a,b", "a"),
        ("rack2-n[12]", "rack2-n12"),
        ("r[1-2]n[5-6]", "r1n5"),
    ],
)
def test_the_first_host_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first
