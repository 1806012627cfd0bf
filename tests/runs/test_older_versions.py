"""Runs that version 0.1 made open, resume, evaluate, export and compare, with the numbers that they had there.

`version_0_1` was written by that version: a finished run, a grid of which one run is finished, and two runs that were
stopped, with AdamW (whose weight decay included biases) and with LARS. `expected.json` has what their metrics were
when they were not stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sslx

MADE = Path(__file__).parent / "version_0_1"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    shutil.copytree(MADE, tmp_path, dirs_exist_ok=True)
    return tmp_path


def ends_as_it_did(run: sslx.Run, name: str) -> None:
    expected = json.loads((MADE / "expected.json").read_text())[name]
    got = run.folder.metrics()
    assert [record.keys() for record in got] == [record.keys() for record in expected]
    for mine, its in zip(got, expected, strict=True):
        assert mine == pytest.approx(its, rel=1e-4, abs=1e-6)  # float32 on another processor


@pytest.mark.parametrize("name", ["stopped", "lars"])
def test_a_stopped_run_goes_on_as_it_would_have(name: str, made: Path) -> None:
    run = sslx.resume(made / name)
    ends_as_it_did(run, name)
    assert run.results["trained"]["knn"]["scores"]["knn"] > 0.2


def test_a_grid_goes_on(made: Path, command: Callable[..., Any]) -> None:
    done = command("resume", "grid")
    assert done.code == 0 and "2 of 2 runs are finished" in done.output, done.errors
    ends_as_it_did(sslx.open_run(made / "grid" / "simvae-seed=1"), "grid/simvae-seed=1")


def test_a_finished_run_is_looked_at_evaluated_and_taken_elsewhere(made: Path, command: Callable[..., Any]) -> None:
    run = sslx.open_run(made / "finished")
    assert repr(run).startswith(f"<Run {made / 'finished'}: simvae on digits, finished, knn 0.")
    assert run.config.train.optimizer.decay_vectors  # as that version did  # type: ignore[attr-defined]
    z = run.method().represent(torch.rand(2, 1, 8, 8))
    assert z.shape == (2, 10)
    for words in (
        "compare finished",
        "eval finished -e linear --set linear.max_iter=200",
        "export finished --to network",
        "embed finished --to z.npz",
        "run --config finished/config.toml --out again",
        "compare finished again",
    ):
        done = command(*words.split())
        assert done.code == 0, f"{words}\n{done.errors}"
    assert "linear" in sslx.open_run(made / "finished").results["trained"]
    again = sslx.open_run(made / "again")
    assert again.config.train.optimizer.decay_vectors  # type: ignore[attr-defined]
    assert "simvae (finished)" in done.output and "simvae (again)" in done.output  # the same run, repeated
