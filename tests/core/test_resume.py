"""A run that is stopped in whatever way and resumed ends as one that never was: the same bytes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, TINY, digest

import sslx
from sslx.core import signals
from sslx.core.dotted import merge
from sslx.core.errors import CheckpointError, ConfigError, Interrupted, LockedError
from sslx.core.files import digest as file_digest, sealed
from sslx.core.toml import dumps
from sslx.core.training import checkpoint
from sslx.core.training.run_folder import RunFolder
from sslx.runs.verify import verify

TinyRun = Callable[..., Any]


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """As if SIGTERM arrived during step `step` of this process."""
    from sslx.core.training.engine import Engine

    update, done = Engine.update, [0]

    def counted(self: Engine, *arguments: Any) -> Any:
        done[0] += 1
        if done[0] == step:
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
        return update(self, *arguments)

    monkeypatch.setattr(Engine, "update", counted)


def go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not signals.received()


def same(a: Path, b: Path) -> bool:
    logs = [(path / "metrics.jsonl").read_bytes() for path in (a, b)]
    results = [json.loads((path / "results.json").read_text()) for path in (a, b)]
    return digest(a) == digest(b) and logs[0] == logs[1] and results[0] == results[1]


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_record_that_was_cut_off_is_written_again(
    checkpoints: bool, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by kill -9, or on a full disk, while a line was being written."""
    whole = tiny_run("vae", "whole")
    stop_at(monkeypatch, 4)
    with pytest.raises(Interrupted):
        tiny_run("vae", "cut")
    go_on(monkeypatch)
    run = tmp_path / "cut"
    with open(run / "metrics.jsonl", "a") as log:
        log.write('{"step": 5, "epo')
    if not checkpoints:
        shutil.rmtree(run / "checkpoints")
    sslx.resume(run)
    assert same(whole.path, run)


def test_a_run_of_a_version_with_fewer_options_goes_on_more_than_once(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files keep the config as that version wrote it, so every checkpoint is one of the same run."""
    whole = tiny_run("vae", "whole")
    stop_at(monkeypatch, 4)
    with pytest.raises(Interrupted):
        tiny_run("vae", "older")
    folder = RunFolder(tmp_path / "older")
    config, facts = folder.config(), folder.facts()
    for options in config["train"], facts["config"]["train"]:
        del options["chunk"], options["norm"]
    folder.write("run.json", facts)
    (folder.path / "config.toml").write_text(dumps(config))
    path, _ = checkpoint.newest(folder.checkpoints)
    assert path is not None
    (path / "manifest.json").write_text(sealed(checkpoint.manifest(path) | {"config": file_digest(config)}))
    stop_at(monkeypatch, 3)
    with pytest.raises(Interrupted):
        sslx.resume(folder.path)
    go_on(monkeypatch)
    assert checkpoint.steps(folder.checkpoints) == [4, 7]
    sslx.resume(folder.path)
    assert same(whole.path, folder.path) and folder.config() == config
    assert not [problems for _, problems in verify(folder.path) if problems]


@pytest.mark.parametrize("step", [1, 4, 6, 7, 11])  # an epoch has six steps
@pytest.mark.parametrize("method", ["simvae", "vae", "simclr"])
def test_stopped_at_any_step_and_resumed_equals_uninterrupted(
    method: str, step: int, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_run(method, "whole")
    stop_at(monkeypatch, step)
    with pytest.raises(Interrupted) as stopped:
        tiny_run(method, "stopped")
    assert stopped.value.exit_code == 75
    go_on(monkeypatch)
    assert checkpoint.steps(tmp_path / "stopped" / "checkpoints") == [step]
    sslx.resume(tmp_path / "stopped")
    assert same(whole.path, tmp_path / "stopped")


@pytest.mark.parametrize("method", ["vae"])  # tests/faults kills the others
def test_killed_and_resumed_equals_uninterrupted(method: str, tiny_run: TinyRun, tmp_path: Path) -> None:
    options = {"train": {"epochs": 40, "checkpoint_steps": 20}}
    config = merge(TINY, {"method": SMALL[method]}, options)
    code = f"import sslx; sslx.run({method!r}, out={str(tmp_path / 'killed')!r}, device='cpu', **{config!r})"
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 60
    while len(checkpoint.steps(checkpoints)) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert checkpoint.steps(checkpoints) and not (tmp_path / "killed" / "results.json").exists()
    sslx.resume(tmp_path / "killed")
    assert same(tiny_run(method, "whole", **options).path, tmp_path / "killed")


def test_resuming_says_where_it_begins(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(monkeypatch, 4)
    with pytest.raises(Interrupted):
        tiny_run("vae", "run")
    go_on(monkeypatch)
    shutil.copytree(tmp_path / "run", tmp_path / "earlier")
    shutil.rmtree(tmp_path / "earlier" / "checkpoints" / "step-000000004")  # as if killed before it was written
    capsys.readouterr()
    sslx.resume(tmp_path / "run")
    assert f"{tmp_path / 'run'}: continues at step 4 of 12\n" in capsys.readouterr().err
    sslx.resume(tmp_path / "earlier")
    assert "earlier: it stopped before its first checkpoint, so the training begins again\n" in capsys.readouterr().err
    assert digest(tmp_path / "run") == digest(tmp_path / "earlier")


def test_sigterm_saves_at_the_next_step_and_exits_75(sslx_command: Any, tmp_path: Path) -> None:
    arguments = [
        "run",
        "-p",
        "vae",
        "--subset",
        "200",
        "--epochs",
        "100000",
        "--out",
        "run",
        "--set",
        "train.log_every=1",
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "sslx", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 75
    assert "stopped by SIGTERM" in errors and "sslx resume run" in errors and "Traceback" not in errors
    (step,) = checkpoint.steps(tmp_path / "run" / "checkpoints")
    assert RunFolder(tmp_path / "run").metrics()[-1]["step"] == step


def test_resuming_a_finished_run_changes_nothing(tiny_run: TinyRun) -> None:
    run = tiny_run("vae", "run")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.path.rglob("*") if path.is_file()}
    sslx.resume(run.path)
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.path.rglob("*") if p.is_file()}


def test_a_run_stopped_before_its_evaluation_is_only_evaluated(tiny_run: TinyRun) -> None:
    run = tiny_run("vae", "run")
    results, weights = run.results, digest(run.path)
    (run.path / "results.json").unlink()
    assert sslx.resume(run.path).results == results and digest(run.path) == weights


def _damage(path: Path, how: str) -> None:
    file = path / "shared.pt"
    data = bytearray(file.read_bytes())
    if how == "a flipped bit":
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
    elif how == "truncated":
        file.write_bytes(bytes(data[: len(data) // 2]))
    elif how == "a file missing":
        file.unlink()
    elif how == "no manifest":
        (path / "manifest.json").unlink()
    elif how == "a manifest cut short":
        (path / "manifest.json").write_text('{"format": 1,')


DAMAGE = ["a flipped bit", "truncated", "a file missing", "no manifest", "a manifest cut short"]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    how: str, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tiny_run("vae", "whole")
    stop_at(monkeypatch, 9)
    with pytest.raises(Interrupted):
        tiny_run("vae", "stopped", train={"checkpoint_steps": 4})
    go_on(monkeypatch)
    checkpoints = tmp_path / "stopped" / "checkpoints"
    assert checkpoint.steps(checkpoints) == [8, 9]
    _damage(checkpoints / "step-000000009", how)
    sslx.resume(tmp_path / "stopped")
    said = capsys.readouterr().err
    assert "step-000000009" in said and "damaged" in said and "using the one before it" in said
    assert same(whole.path, tmp_path / "stopped")


def test_where_all_checkpoints_are_damaged_nothing_is_deleted(tiny_run: TinyRun, tmp_path: Path) -> None:
    run = tiny_run("vae", "run", train={"checkpoint_steps": 4})
    (run.path / "results.json").unlink()
    for path in (run.path / "checkpoints").glob("step-*"):
        _damage(path, "truncated")
    before = sorted(run.path.rglob("*"))
    with pytest.raises(CheckpointError, match="no checkpoint can be used"):
        sslx.resume(run.path)
    assert [path for path in before if path.name != "lock.json" and not path.exists()] == []


def test_a_full_disk_leaves_earlier_checkpoints_alone(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sslx.core.training.engine import Engine

    save, limits = Engine.save, resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(self: Engine) -> Path:
        if self.step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        return save(self)

    monkeypatch.setattr(Engine, "save", full)
    try:
        with pytest.raises(CheckpointError, match=r"step-000000008.*File too large; free some.*resume.* from step 4"):
            tiny_run("vae", "run", train={"checkpoint_steps": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    checkpoints = tmp_path / "run" / "checkpoints"
    assert checkpoint.steps(checkpoints) == [4] and not list(checkpoints.glob(".draft-*"))
    sslx.resume(tmp_path / "run")
    assert same(tiny_run("vae", "whole").path, tmp_path / "run")


def test_two_checkpoints_are_kept(tiny_run: TinyRun) -> None:
    run = tiny_run("vae", "run", train={"checkpoint_steps": 1})
    assert checkpoint.steps(run.path / "checkpoints") == [11, 12]


def test_a_checkpoint_with_code_in_it_is_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    run = tiny_run("vae", "run")
    torch.save(Evil(), tmp_path / "evil.pt")
    path, _ = checkpoint.newest(run.path / "checkpoints")
    assert path is not None
    (path / "shared.pt").write_bytes((tmp_path / "evil.pt").read_bytes())
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        checkpoint.load(path)
    assert not (tmp_path / "executed").exists()


def test_a_run_is_written_by_one_process_at_a_time(tiny_run: TinyRun) -> None:
    run = tiny_run("vae", "run")
    (run.path / "results.json").unlink()
    other = RunFolder(run.path)
    other.lock()
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        sslx.resume(run.path)
    other.unlock()
    sslx.resume(run.path)


def test_a_run_never_overwrites_another(tiny_run: TinyRun) -> None:
    run = tiny_run("vae", "run")
    with pytest.raises(ConfigError, match="sslx resume"):
        tiny_run("vae", "run")
    assert run.results


def test_the_same_seed_gives_the_same_run_and_another_another(tiny_run: TinyRun) -> None:
    first, again, other = (tiny_run("simvae", str(i), seed=seed) for i, seed in enumerate([3, 3, 4]))
    assert same(first.path, again.path) and digest(first.path) != digest(other.path)


def test_the_callers_random_state_is_given_back(tiny_run: TinyRun) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    tiny_run("simvae", "run")
    assert torch.equal(state, torch.get_rng_state())


def test_a_loss_that_is_not_finite_stops_before_the_update_and_can_be_replayed(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text(
        "import torch\n"
        "from sslx.api import Terms\n"
        "from sslx.families.vae import VAE\n"
        "class Bad(VAE):\n"
        "    def forward(self, views):\n"
        "        terms = super().forward(views)\n"
        "        if 7 in views.index:\n"
        "            terms['prior'] = terms['prior']._replace(value=terms['prior'].value * torch.tensor(0.0).log())\n"
        "        return terms\n"
    )
    plugin = f"{tmp_path / 'bad.py'}:Bad"
    from sslx.core.errors import NonFiniteError
    from sslx.runs.session import replay_run

    with pytest.raises(NonFiniteError, match="prior = ") as stopped:
        tiny_run(plugin, "run", method=SMALL["vae"])
    assert "sslx replay" in str(stopped.value) and stopped.value.exit_code == 1
    crash = json.loads((tmp_path / "run" / "crash" / "crash.json").read_text())
    assert 7 in crash["processes"][0]["samples"]
    path, _ = checkpoint.newest(tmp_path / "run" / "crash")
    assert path is not None
    weights = checkpoint.load(path)[0]["method"]
    assert all(bool(w.isfinite().all()) for w in weights.values())
    facts = replay_run(tmp_path / "run")
    assert facts["step"] == crash["step"] + 1
    assert {name: repr(value) for name, value in facts["terms"].items()} == crash["processes"][0]["terms"]
