"""Many runs in one folder: which there are, that a stop loses nothing, and that a failure stops no other run."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import digest

from sslx.core import signals
from sslx.core.training.config import configure
from sslx.core.training.run import Launch
from sslx.runs.grid import Grid
from sslx.runs.plan import read_sweep

Command = Callable[..., tuple[int, str, str]]
TINY = ["--subset", "64", "--epochs", "1", "-e", "knn", "--set", "encoder.hidden=16"]


def contents(path: Path) -> dict[Path, tuple[int, bytes]]:
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.rglob("*") if file.is_file()}


def same(a: Path, b: Path) -> bool:
    """Weights, metrics, scores and config, to the byte."""
    texts = [[(p / name).read_bytes() for name in ("metrics.jsonl", "results.json", "config.toml")] for p in (a, b)]
    return texts[0] == texts[1] and digest(a) == digest(b)


# --- which runs -------------------------------------------------------------------------------------------------------


def test_plugins_and_seeds_are_combined_and_the_table_has_a_row_for_each_plugin(
    command: Command, tmp_path: Path
) -> None:
    code, out, errors = command("run", "-p", "simvae,vae", "--seed", "0,7", *TINY, "--out", "g")
    assert code == 0, errors
    assert sorted(p.name for p in (tmp_path / "g").iterdir() if p.is_dir()) == [
        "simvae-seed=0", "simvae-seed=7", "vae-seed=0", "vae-seed=7",
    ]  # fmt: skip
    assert "g: 4 of 4 runs are finished" in out and re.search(r"^simvae +2 ", out, re.MULTILINE)
    code, compared, _ = command("compare", "g")
    assert code == 0 and out.startswith(compared)
    # A run of a grid is the run that it would be alone.
    assert command("run", "-p", "vae", "--seed", "7", *TINY, "--out", "alone")[0] == 0
    assert same(tmp_path / "alone", tmp_path / "g" / "vae-seed=7")
    # The same command again does nothing more; another one is refused.
    before = contents(tmp_path / "g")
    code, again, _ = command("run", "-p", "simvae,vae", "--seed", "0,7", *TINY, "--out", "g")
    assert code == 0 and again == out
    assert command("resume", "g")[:2] == (0, out)
    assert {p: c for p, c in contents(tmp_path / "g").items() if p.name != "lock"} == {
        p: c for p, c in before.items() if p.name != "lock"
    }
    code, _, errors = command("run", "-p", "simvae,vae", "--seed", "0,8", *TINY, "--out", "g")
    assert code == 2 and "g holds other runs; `sslx resume g`" in errors
    code, out, _ = command("eval", "g", "-e", "linear")
    assert code == 0 and (tmp_path / "g" / "vae-seed=0" / "results-1.json").exists() and "linear" in out


def test_without_a_name_the_same_runs_have_the_same_folder(command: Command, tmp_path: Path) -> None:
    for seeds in ("0,1", "0,1", "1,2"):
        assert command("run", "-p", "random", "--seed", seeds, *TINY)[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


SWEEP = """
dataset = "digits"
subset = 64
evaluators = "knn"
[train]
epochs = 1
[method.encoder]
hidden = [16]
[grid]
seed = [0, 1]
[[runs]]
method = "simvae"
grid = { "prior.variance" = [0.1, 0.2] }
[[runs]]
method = "vae"
prior = { use = "mixture", components = 3 }
train.lr = 0.01
"""


def test_a_sweep_combines_its_tables_with_its_lists(command: Command, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(SWEEP.replace("[method.encoder]\nhidden = [16]\n", ""))
    assert read_sweep(tmp_path / "sweep.toml")[1] == [
        {"method": "simvae", "prior.variance": 0.1, "seed": 0},
        {"method": "simvae", "prior.variance": 0.1, "seed": 1},
        {"method": "simvae", "prior.variance": 0.2, "seed": 0},
        {"method": "simvae", "prior.variance": 0.2, "seed": 1},
        {"method": "vae", "prior": "mixture", "prior.components": 3, "train.lr": 0.01, "seed": 0},
        {"method": "vae", "prior": "mixture", "prior.components": 3, "train.lr": 0.01, "seed": 1},
    ]
    code, out, errors = command("run", "--sweep", "sweep.toml", "--out", "g")
    assert code == 0, errors
    assert sorted(p.name for p in (tmp_path / "g").iterdir() if p.is_dir()) == [
        "simvae-prior.variance=0.1-seed=0",
        "simvae-prior.variance=0.1-seed=1",
        "simvae-prior.variance=0.2-seed=0",
        "simvae-prior.variance=0.2-seed=1",
        "vae-prior=mixture-prior.components=3-train.lr=0.01-seed=0",
        "vae-prior=mixture-prior.components=3-train.lr=0.01-seed=1",
    ]
    from sslx.runs.session import open_run

    config: Any = open_run(tmp_path / "g" / "vae-prior=mixture-prior.components=3-train.lr=0.01-seed=1").config
    assert (config.method.prior.components, config.train.optimizer.lr, config.seed, config.subset) == (3, 0.01, 1, 64)
    assert list(config.evaluators) == ["knn"]
    assert "simvae (prior.variance=0.1)" in out and "simvae (prior.variance=0.2)" in out and "\nvae  " in out
    # Flags go above the file.
    assert command("run", "--sweep", "sweep.toml", "--out", "h", "--epochs", "0", "-e", "linear")[0] == 0
    one: Any = open_run(tmp_path / "h" / "simvae-prior.variance=0.1-seed=0").config
    assert one.train.epochs == 0 and list(one.evaluators) == ["linear"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seed = [0, 1]", "seed = 3"), "grid.seed: expected a list of values, got 3"),
        (("seed = [0, 1]", "seed = []"), "grid.seed: expected a list of values, got []"),
        (("seed = [0, 1]", "seed = [0, -1]"), "seed: expected an integer >= 0 and < 9.22337e+18, got -1"),
        (("seed = [0, 1]", "seed = [1, 1]"), "the same run more than once"),
        (("prior.variance", "prior.varience"), "method.prior.varience: shared-mean has no option 'varience'"),
        (("components = 3", "components = 0"), "method.prior.components: expected"),
        (("[[runs]]", "[runs]"), ""),
        (("epochs = 1", "epoch = 1"), "train.epoch: Training has no option 'epoch'"),
        (('method = "vae"', ""), "expected the name of a method"),
    ],
)
def test_all_runs_are_checked_before_the_first_begins(
    change: tuple[str, str], message: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "sweep.toml").write_text(SWEEP.replace("[method.encoder]\nhidden = [16]\n", "").replace(*change))
    code, _, errors = command("run", "--sweep", "sweep.toml", "--out", "g")
    assert code == 2 and message in errors and len(errors.splitlines()) == 1
    assert not (tmp_path / "g").exists()


def test_a_folder_with_something_else_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "mine.txt").write_text("x")
    code, _, errors = command("run", "-p", "random", "--seed", "0,1", *TINY, "--out", "g")
    assert code == 2 and "g exists and is not empty" in errors
    code, _, errors = command("run", "-p", "random", "--sweep", "a.toml", "--config", "b.toml")
    assert code == 2 and "expected one of --config, --sweep and --recipe" in errors


# --- stopped and resumed ----------------------------------------------------------------------------------------------


def launch(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sslx", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert path.exists()


def test_a_grid_that_was_stopped_goes_on_bit_for_bit(command: Command, tmp_path: Path) -> None:
    arguments = [
        "run", "-p", "simvae", "--seed", "0,1,2", "--subset", "256", "--epochs", "20", "-e", "knn",
        "--set", "encoder.hidden=64", "--set", "decoder.hidden=64", "--set", "train.log_every=1", "--device", "cpu",
    ]  # fmt: skip
    child = launch(tmp_path, *arguments, "--out", "stopped")
    second = tmp_path / "stopped" / "simvae-seed=1"
    wait_for(second / "metrics.jsonl", child)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 75
    assert "simvae-seed=1: stopped by SIGTERM" in errors and "1 of 3 runs are finished" in errors
    assert "`sslx resume stopped` continues" in errors and "Traceback" not in errors
    assert (second / "checkpoints").exists() and not (second / "results.json").exists()
    assert not (tmp_path / "stopped" / "simvae-seed=2").exists()
    started = (second / "run.json").read_bytes()
    code, out, _ = command("compare", "stopped")
    assert code == 0 and "simvae" in out
    first = contents(tmp_path / "stopped" / "simvae-seed=0")
    code, out, errors = command(*arguments, "--out", "stopped")  # the same command again
    assert code == 0 and "stopped: 3 of 3 runs are finished" in out, errors
    assert contents(tmp_path / "stopped" / "simvae-seed=0") == first
    assert (second / "run.json").read_bytes() == started  # it went on, and did not begin again
    assert command(*arguments, "--out", "whole")[0] == 0
    for name in ("simvae-seed=0", "simvae-seed=1", "simvae-seed=2"):
        assert same(tmp_path / "stopped" / name, tmp_path / "whole" / name), name


def test_a_signal_between_two_runs_is_heeded(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sslx.core.training.run_folder import RunFolder

    unlock = RunFolder.unlock

    def stop(self: RunFolder) -> None:  # at the very end of the first run
        unlock(self)
        monkeypatch.setattr(signals, "_received", signal.SIGTERM)

    monkeypatch.setattr(RunFolder, "unlock", stop)
    code, _, errors = command("run", "-p", "random", "--seed", "0,1", *TINY, "--out", "g")
    assert code == 75 and "random-seed=1: stopped by SIGTERM; 1 of 2 runs are finished" in errors
    assert not (tmp_path / "g" / "random-seed=1").exists()


def test_a_run_that_was_changed_on_its_own_is_said_in_its_grid(command: Command, tmp_path: Path) -> None:
    assert command("run", "-p", "vae", "--seed", "0,1", *TINY, "--out", "g")[0] == 0
    assert command("resume", "g/vae-seed=1", "--epochs", "2")[0] == 0
    code, out, errors = command("resume", "g")
    assert code == 0 and errors.count("was changed") == 1
    assert "g/vae-seed=1: was changed at step 1: train.epochs" in errors
    assert "vae (seed=1, train.epochs=2)" in out or "vae (train.epochs=2)" in out


def test_a_run_that_was_killed_before_it_had_a_config_begins_again(command: Command, tmp_path: Path) -> None:
    assert command("run", "-p", "random", "--seed", "0,1", *TINY, "--out", "g")[0] == 0
    run = tmp_path / "g" / "random-seed=1"
    for path in sorted(run.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path != run / "run.json":
            path.unlink()
    (run / ".config.toml.draft").write_text("cut sho")
    assert command("resume", "g")[0] == 0 and (run / "results.json").exists()


# --- failures ---------------------------------------------------------------------------------------------------------

BAD = """
import os, torch
from sslx.families.vae import VAE

class Bad(VAE):
    def forward(self, views):
        terms = super().forward(views)
        if not os.environ.get("SSLX_TEST_GOOD") and self.encoder.dim == 3:
            terms["prior"] = terms["prior"]._replace(value=terms["prior"].value * torch.tensor(0.0).log())
        return terms
"""


def test_a_failing_run_is_recorded_and_the_rest_goes_on(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    (tmp_path / "sweep.toml").write_text(
        f'method = {{ use = "{tmp_path}/bad.py:Bad", decoder.hidden = [16], encoder.hidden = [16] }}\n'
        'subset = 64\nevaluators = ["knn"]\n[train]\nepochs = 1\n[grid]\n"encoder.dim" = [2, 3, 4]\n'
    )
    code, out, errors = command("run", "--sweep", "sweep.toml", "--out", "g")
    assert code == 1
    assert "Bad-encoder.dim=3 failed: NonFiniteError: step 1: prior = " in errors and "Traceback" not in errors
    assert "g: 2 of 3 runs are finished" in out and "Bad (encoder.dim=4)" in out and "encoder.dim=3" not in out
    failed = json.loads((tmp_path / "g" / "failed.json").read_text())
    assert list(failed) == ["Bad-encoder.dim=3"] and "Traceback" in failed["Bad-encoder.dim=3"]["traceback"]
    assert command("resume", "g")[0] == 1  # it is tried again, and fails again
    monkeypatch.setenv("SSLX_TEST_GOOD", "1")
    code, out, errors = command("resume", "g")
    assert code == 0 and "3 of 3 runs are finished" in out
    assert json.loads((tmp_path / "g" / "failed.json").read_text()) == {}


def test_a_dataset_that_is_missing_fails_its_runs_only(command: Command, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(
        'method = "random"\nsubset = 64\nevaluators = ["knn"]\n[grid]\ndataset = ["mnist", "digits"]\n'
    )
    arguments = ["--offline", "--data-dir", "nowhere", "--out", "g"]
    code, out, errors = command("run", "--sweep", "sweep.toml", *arguments)
    assert code == 1 and "random-dataset=mnist failed: DataError" in errors
    assert "1 of 2 runs are finished" in out and "Representations of digits" in out


def test_a_run_that_is_done_holds_no_images(tmp_path: Path) -> None:
    options = {"subset": 64, "train": {"epochs": 1, "batch_size": 32}, "evaluators": {"knn": {}}}
    configs = {str(seed): configure({"method": "vae", "seed": seed}, options) for seed in (0, 1)}
    grid = Grid.make(tmp_path / "g", configs, Launch("cpu"))
    grid.create()
    assert grid.carry_out() == [] and len(grid.finished()) == 2
    kept = [value for config in configs.values() for value in vars(config.loader).values()]
    assert not any(isinstance(value, torch.Tensor) for value in kept)


def test_several_processes_share_a_grid_and_take_over_what_one_leaves(command: Command, tmp_path: Path) -> None:
    arguments = [
        "run", "-p", "simvae,vae", "--seed", "0,1", "--subset", "128", "--epochs", "8", "-e", "knn",
        "--set", "encoder.hidden=64", "--set", "decoder.hidden=64", "--set", "train.log_every=1", "--device", "cpu",
    ]  # fmt: skip
    workers = [launch(tmp_path, *arguments, "--out", "shared") for _ in range(2)]
    wait_for(tmp_path / "shared" / "simvae-seed=1" / "metrics.jsonl", workers[0])  # each has a run now
    workers[0].kill()
    said = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [-9, 0], said[1]
    assert command(*arguments, "--out", "alone")[0] == 0
    names = ("simvae-seed=0", "simvae-seed=1", "vae-seed=0", "vae-seed=1")
    assert all(same(tmp_path / "shared" / name, tmp_path / "alone" / name) for name in names)
    begun = [[name for name in names if f": {name}\n" in each] for each in said]
    assert sorted(begun[0] + begun[1]) == sorted([*names, begun[0][-1]])  # nothing twice but what was left unfinished
    before = contents(tmp_path / "shared")
    assert command(*arguments, "--out", "shared")[0] == 0
    assert {path: text for path, (_, text) in contents(tmp_path / "shared").items()} == {
        path: text for path, (_, text) in before.items()
    }
