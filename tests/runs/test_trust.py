"""What a run rests on is known: a change of its files, its config or its images is said, and nothing loses a training."""

from __future__ import annotations

import json
import math
import re
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
from conftest import digest

import sslx
from sslx.api import Evaluator, JointEmbedding, Result, Term, Terms, Views, hookimpl, option
from sslx.core import signals
from sslx.core.errors import CheckpointError, ConfigError, DataError, Interrupted, PluginError
from sslx.core.files import replace, untangled
from sslx.core.training import checkpoint
from sslx.core.training.engine import Engine

TinyRun = Callable[..., Any]
Command = Callable[..., Any]


def said(errors: str) -> int:
    """How many lines of error there are, beside those of progress."""
    return sum(line.startswith("sslx: ") for line in errors.splitlines())


def flip(path: Path, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at or len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def stopped(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 12 steps that was stopped at step 8."""
    monkeypatch.setattr(Engine, "record", _stop_at(8, Engine.record, monkeypatch))
    with pytest.raises(Interrupted):
        tiny_run("vae", "stopped", train={"checkpoint_steps": 4})
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "stopped"


def _stop_at(step: int, record: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def stopping(self: Engine, *arguments: Any) -> Any:
        if self.step == step:
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
        return record(self, *arguments)

    return stopping


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_last_checkpoint_of_a_finished_run_is_an_error_that_names_it(
    tiny_run: TinyRun, command: Command
) -> None:
    run = tiny_run("vae", "run", train={"checkpoint_steps": 4})
    whole = sslx.open_run(run.path, checkpoint=8).method().state_dict()
    flip(run.path / "checkpoints" / "step-000000012" / "shared.pt")
    for arguments in (["eval", "run", "-e", "knn"], ["embed", "run", "--to", "x.npz"], ["export", "run", "--to", "x"]):
        code, _, errors = command(*arguments)
        assert code == 1 and said(errors) == 1
        assert "step-000000012: damaged: shared.pt is not what was written; --checkpoint 8" in errors
    shutil.move(run.path / "checkpoints" / "step-000000012", "elsewhere")
    for arguments in (["eval", "run", "-e", "knn"], ["embed", "run", "--to", "x.npz"], ["export", "run", "--to", "x"]):
        code, _, errors = command(*arguments)
        assert code == 1 and said(errors) == 1
        assert "checkpoints: there is no step 12, with which the training ended; --checkpoint 8" in errors
    assert command("embed", "run", "--to", "x.npz", "--checkpoint", "8").code == 0
    assert command("eval", "run", "-e", "linear", "--checkpoint", "8").code == 0
    assert run.results["trained"]["linear"]["checkpoint"] == 8
    code, _, errors = command("export", "run", "--to", "x", "--checkpoint", "7")
    assert code == 2 and "there are 8\n" in errors
    again = sslx.open_run(run.path, checkpoint=8).method().state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("name", ["run.json", "results.json", "training.json", "config.toml"])
def test_a_changed_file_is_named_by_whatever_reads_it(name: str, tiny_run: TinyRun, command: Command) -> None:
    run = tiny_run("vae", "run")
    content = (run.path / name).read_text()
    old, new = {"config.toml": ("epochs = 2", "epochs = 3")}.get(name, ("1", "2"))
    (run.path / name).write_text(content.replace(old, new, 1))
    code, output, errors = command("verify", "run")
    assert code == 1 and f"run/{name}: " in output and f"run/{name}: ok" not in output
    code, output, errors = command("compare", "run")
    assert code in (1, 2) and f"run/{name}" in errors and "Traceback" not in errors and said(errors) == 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"trained": 5}', "[" * 100_000, "\0", '{"trained": {}, "x']
)
def test_a_file_of_another_shape_is_one_line(content: str, tiny_run: TinyRun, command: Command) -> None:
    run = tiny_run("vae", "run")
    for name in ("results.json", "run.json", "training.json"):
        whole = (run.path / name).read_text()
        (run.path / name).write_text(content)
        code, _, errors = command("compare", "run")
        assert code == 1 and f"run/{name}: damaged: " in errors and said(errors) == 1
        (run.path / name).write_text(whole)


def test_damaged_metrics_are_said_and_a_copy_is_kept(
    stopped: Path, tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(stopped / "metrics.jsonl", 60)
    sslx.resume(stopped)
    assert "metrics.jsonl: damaged before step 8" in capsys.readouterr().err
    assert len(list(stopped.glob("damaged-*-metrics.jsonl"))) == 1
    assert digest(stopped) == digest(tiny_run("vae", "whole").path)  # the training itself is the same


def test_a_line_that_was_cut_off_is_left_out_and_damage_before_it_is_not(stopped: Path, command: Command) -> None:
    log = stopped / "metrics.jsonl"
    whole = log.read_bytes()
    for cut in (b'{"step": 9, "lo', b'{"step": 9}', b"\0" * 7, b"\xff"):
        log.write_bytes(whole + cut)
        assert command("report", "stopped").code == 0
        assert "step 8 of" in re.sub(r"\s+", " ", (stopped / "report.html").read_text())
        plot = command("plot", "curves", "stopped", "--out", "curves.png")
        assert plot.code == 0, plot.errors
        (stopped.parent / "curves.png").unlink()
        (stopped.parent / "curves.csv").unlink()
        code, output, _ = command("verify", "stopped")
        assert code == 0 and "metrics.jsonl, but for a last line that was cut off when the run was ended: ok" in output
        assert [record["step"] for record in sslx.open_run(stopped).folder.metrics()] == [*range(1, 9)]
    log.write_bytes(whole.replace(b"loss", b"lo\nss", 1))
    for words in (("report", "stopped"), ("plot", "curves", "stopped", "--out", "curves.png"), ("verify", "stopped")):
        code, output, errors = command(*words)
        assert code == 1 and "metrics.jsonl: line 1 is damaged" in (output + errors) and said(errors) == 1
    log.write_bytes(whole + b'{"step": 9, "lo')
    assert command("resume", "stopped").code == 0
    log.write_bytes(log.read_bytes()[:-9])  # a finished run has all its lines
    code, _, errors = command("report", "stopped")
    assert code == 1 and "metrics.jsonl: line 12 is damaged" in errors


def test_verify_says_what_is_whole(tiny_run: TinyRun, command: Command) -> None:
    run = tiny_run("vae", "run")
    code, output, errors = command("verify", "run")
    assert code == 0 and not said(errors)
    assert [line.rpartition(": ")[2] for line in output.splitlines()] == ["ok"] * len(output.splitlines())
    for part in ("config.toml", "run.json", "results.json", "checkpoints/step-000000012", "metrics.jsonl", "export"):
        assert f"run/{part}: ok" in output
    assert "data: ok" in output and "code: ok" in output
    flip(run.path / "export" / "model.safetensors")
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write("{}\n")
    code, output, errors = command("verify", "run")
    assert code == 1 and "2 parts are not whole" in errors
    assert "run/metrics.jsonl: has lines after the end" in output and "run/export: ok" not in output


# --- changes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new, named", [
    ("seed = 0", "seed = 1", "seed is 1, it was 0"),
    ("epochs = 2", "epochs = 4", "train.epochs is 4, it was 2"),
    ("batch_size = 16", "batch_size = 32", "train.batch_size is 32, it was 16"),
    ("neighbours = 3", "neighbours = 5", "evaluators.knn.neighbours is 5, it was 3"),
    ('use = "adam"', 'use = "sgd"', "train.optimizer is sgd, it was adam"),
    ("lr = ", "lr = 1", "train.lr is "),
])  # fmt: skip
def test_an_edited_config_is_named_and_refused(old: str, new: str, named: str, stopped: Path, command: Command) -> None:
    config = stopped / "config.toml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    code, _, errors = command("resume", "stopped")
    assert code == 2 and errors.count("\n") == 1
    assert f"stopped/config.toml: was edited: {named}" in errors and "sslx resume stopped --set" in errors


def test_a_finished_run_trains_longer_and_ends_as_one_that_always_would(
    tiny_run: TinyRun, command: Command, tmp_path: Path
) -> None:
    tiny_run("vae", "long", train={"epochs": 4})
    run = tiny_run("vae", "run")
    before = run.results
    code, _, errors = command("resume", "run", "--epochs", "4")
    assert code == 0, errors
    assert digest(tmp_path / "run") == digest(tmp_path / "long")
    assert json.loads((tmp_path / "run" / "results-1.json").read_text())["trained"] == before["trained"]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [(each["step"], each["options"]) for each in record["changes"]] == [(12, {"train.epochs": 4})]
    assert command("verify", "run").code == 0
    code, _, errors = command("resume", "run", "--epochs", "1")
    assert code == 2 and "4 epochs are trained already" in errors


def test_only_what_may_change_within_a_run_does(stopped: Path, command: Command) -> None:
    code, _, errors = command(
        "resume", "stopped", "--set", "seed=1", "--set", "prior.variance=0.5", "--set", "batch_size=8"
    )
    assert code == 2
    for setting in ("seed=1", "train.batch_size=8", "train.optimizer=sgd", "views.count=3", "encoder.dim=3"):
        code, _, errors = command("resume", "stopped", "--set", setting)
        assert code == 2 and f"{setting.partition('=')[0]}: cannot change within a run" in errors
        assert "sslx run --from stopped" in errors
    code, _, errors = command("resume", "stopped", "--set", "train.lr=0.01", "--set", "evaluators.knn.neighbours=4")
    assert code == 0 and "the learning rate at step 8 is 0.01 instead of 0.001" in errors
    run = sslx.open_run(stopped)
    assert run.results["trained"]["knn"]["options"]["neighbours"] == 4
    code, _, errors = command("run", "--config", "stopped", "--out", "again")
    assert "was changed at step 8: evaluators.knn.neighbours, train.lr" in errors


def test_a_change_that_was_cut_short_is_finished(stopped: Path, command: Command) -> None:
    before = (stopped / "config.toml").read_text()
    assert command("resume", "stopped", "--epochs", "3").code == 0
    (stopped / "config.toml").write_text(before)  # as if the process had ended between its two writes
    assert command("compare", "stopped").code == 0
    assert sslx.open_run(stopped).config.train.epochs == 3


def test_a_run_begins_with_the_weights_of_another(tiny_run: TinyRun, command: Command, tmp_path: Path) -> None:
    first = tiny_run("vae", "first")
    weights = first.method().state_dict()
    second = tiny_run("vae", "second", weights=first.path, train={"epochs": 0})
    assert all(torch.equal(weights[name], value) for name, value in second.method().state_dict().items())
    record = json.loads((second.path / "run.json").read_text())["weights"]
    assert record["from"] == str(first.path) and record["initial"] == [] and len(record["sha256"]) == 64
    third = tiny_run("simclr", "third", weights=first.path / "export", train={"epochs": 0})
    mine = third.method().state_dict()
    taken = [name for name in mine if name in weights and mine[name].shape == weights[name].shape]
    assert taken and all(torch.equal(mine[name], weights[name]) for name in taken if name.startswith("encoder"))
    flip(first.path / "export" / "model.safetensors", -1)
    shutil.copytree(first.path / "export", "other")
    flip(tmp_path / "other" / "config.json")
    for source, expected in (
        ("nowhere", "expected the folder of a run"),
        ("timm:nothing", "timm has no model 'nothing'"),
        ("first/export", "model.safetensors: damaged: it is not what was written"),
        ("first/export/model.safetensors", "model.safetensors: damaged: it is not what was written"),
        ("other", "config.json: damaged"),
    ):
        code, _, errors = command("run", "-p", "vae", "--from", source, "--epochs", "1", "--subset", "64", "-o", "x")
        assert code == (1 if "damaged" in expected else 2) and expected in errors and said(errors) == 1
        assert not (tmp_path / "x").exists()


def test_the_same_command_goes_on_with_its_own_run(stopped: Path, command: Command, tiny_run: TinyRun) -> None:
    again = tiny_run("vae", "stopped", train={"checkpoint_steps": 4})
    assert digest(again.path) == digest(tiny_run("vae", "whole").path)
    with pytest.raises(ConfigError, match="holds a finished run"):
        tiny_run("vae", "stopped", train={"checkpoint_steps": 4})


def test_another_run_is_not_continued_by_mistake(stopped: Path, tiny_run: TinyRun) -> None:
    with pytest.raises(ConfigError, match=r"holds another run: seed is 3, it was 0; choose another folder"):
        tiny_run("vae", "stopped", train={"checkpoint_steps": 4}, seed=3)


def test_changed_images_are_noticed(
    sslx_images: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "record", _stop_at(2, Engine.record, monkeypatch))
    arguments = [
        "run",
        "-p",
        "vae",
        "-d",
        "folder:images",
        "--epochs",
        "2",
        "--batch-size",
        "8",
        "-e",
        "knn",
        "-o",
        "run",
    ]
    assert command(*arguments).code == 75
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert str(sslx_images) in (tmp_path / "run" / "config.toml").read_text()  # found from any folder
    one = sslx_images / "red" / "1.png"
    content = one.read_bytes()
    shutil.copy(sslx_images / "blue" / "1.png", one)
    code, _, errors = command("resume", "run")
    assert code == 2 and "images differ in" in errors and "--changed-data continues with them" in errors
    one.write_bytes(content)  # of another time, with the same pixels
    assert command("resume", "run").code == 0
    shutil.copy(sslx_images / "blue" / "1.png", sslx_images / "red" / "100.png")
    code, _, errors = command("eval", "run", "-e", "linear")
    assert code == 0 and "evaluated on other data: the" in errors
    results = sslx.open_run(tmp_path / "run").results["trained"]
    assert "images are" in results["linear"]["other_data"] and "other_data" not in results["knn"]
    assert command("verify", "run").code == 1


def test_a_run_finds_its_images_from_any_folder_and_where_they_were_moved(
    sslx_images: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(sslx_images, tmp_path / "mine")
    assert command("run", "-p", "random", "-d", "folder:mine", "-e", "knn", "-o", "run").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command("eval", "../run", "-e", "geometry").code == 0
    assert command("embed", "../run", "--out", "features.npz").code == 0
    (tmp_path / "mine").rename(tmp_path / "moved")
    code, _, errors = command("eval", "../run", "-e", "geometry")
    assert code == 2 and "mine does not exist or is not a folder" in errors and said(errors) == 1
    assert command("eval", "../run", "-e", "geometry", "--set", "dataset.path=../moved").code == 0


def test_another_number_of_images_ends_a_training(
    sslx_images: Path, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "record", _stop_at(2, Engine.record, monkeypatch))
    dataset = {"use": "folder", "path": sslx_images}
    with pytest.raises(Interrupted):
        tiny_run(
            "instance-discrimination", "run", dataset=dataset, subset="none", train={"batch_size": 8},
            encoder={"use": "mlp"},
        )  # fmt: skip
    monkeypatch.undo()
    for i in range(12):
        shutil.copy(sslx_images / "blue" / "1.png", sslx_images / "red" / f"more{i}.png")
    with pytest.raises(DataError, match=r"its training cannot continue; `sslx run --from .*run` starts another"):
        sslx.resume(tmp_path / "run", changed_data=True)


# --- nothing loses a training -----------------------------------------------------------------------------------------


class Late(JointEmbedding, projector=(8,), encoder={"use": "mlp", "hidden": (8,)}):
    """A term that starts at the seventh step, and one of weight 0 that is infinite."""

    def forward(self, views: Views) -> Terms:
        self.calls = getattr(self, "calls", 0) + 1
        terms = super().forward(views)
        terms["watched"] = Term(torch.tensor(math.inf), weight=0.0)
        if self.calls > 6:
            terms["late"] = Term(next(iter(terms.values())).value * 0.5, weight=0.1)
        return terms

    def diagnosis(self, excess: Any) -> str:
        raise ValueError("no diagnosis today")


class Fails(Evaluator):
    """Fails."""

    def evaluate(self, evaluation: Any) -> Result:
        raise RuntimeError("not today")


class Quits:
    @hookimpl
    def sslx_metrics(self, run: Any, step: int) -> None:
        raise SystemExit(3)


def test_what_fails_after_training_is_a_line(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sslx.runs.session.write_weights", lambda *_: 1 / 0)
    run = tiny_run(Late, "run", evaluators=[Fails, "knn"])
    said = capsys.readouterr().err
    assert "no diagnosis: ValueError: no diagnosis today" in said and "export: not written: ZeroDivisionError" in said
    assert "failed" in run.results["trained"]["Fails"] and "scores" in run.results["trained"]["knn"]
    metrics = run.folder.metrics()
    assert all(math.isfinite(record["loss"]) and record["watched"] == math.inf for record in metrics)
    assert "late" not in metrics[0] and "late" in metrics[-1]


class Odd(Late):
    """Represents nothing."""

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no representation")


def test_a_method_that_cannot_be_evaluated_keeps_its_training(tiny_run: TinyRun) -> None:
    run = tiny_run(Odd, "run")
    assert "no representation" in run.results["trained"]["knn"]["failed"] and run.training["seconds"] > 0


class Steep(Late):
    """Two terms, one of whose gradients is infinite while its value is finite."""

    def forward(self, views: Views) -> Terms:
        z = self.represent(views.flat)
        return Terms(good=z.square().mean(), steep=(z.mean() * 0).abs().sqrt())


def test_a_gradient_that_is_not_finite_names_its_term(tiny_run: TinyRun) -> None:
    with pytest.raises(Exception, match=r"step 1: gradient norm = nan, not finite is the gradient of steep"):
        tiny_run(Steep, "run")


@pytest.mark.parametrize("name", ["loss", "step", "epoch", "lr", "gradient_norm", "kl_excess"])
def test_reserved_names_of_terms_are_refused(name: str, tiny_run: TinyRun) -> None:
    class Named(Late):
        def forward(self, views: Views) -> Terms:
            return Terms({name: self.represent(views.flat).square().mean()})

    with pytest.raises(PluginError, match=f"a term cannot be called {name!r}"):
        tiny_run(Named, "run")


class Slow(Evaluator):
    """Counts how often it is used, and asks for a stop the first time."""

    log: str = option(default="", help="A file.")

    def evaluate(self, evaluation: Any) -> Result:
        with open(self.log, "a") as file:
            file.write("x")
        if Path(self.log).read_text() == "x":
            signals._received = signal.SIGTERM
        return Result({"slow": 1.0}, {"protocol": 1}, "slow")


def test_an_evaluation_that_was_stopped_goes_on_with_what_is_missing(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_received", None)
    log = str(tmp_path / "log")
    with pytest.raises(Interrupted, match=r"before the evaluation was done; `sslx resume .*run` continues it"):
        tiny_run("vae", "run", evaluators={"slow": Slow(log=log), "knn": {"neighbours": 3}})
    signals._received = None
    begun = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert "slow" in begun["trained"] and not begun["untrained"]
    run = sslx.resume(tmp_path / "run", objects=Slow)
    assert run.results["trained"].keys() == {"slow", "knn"} and Path(log).read_text() == "xx"  # trained, untrained
    assert not (tmp_path / "run" / "evaluation.json").exists()


def test_a_script_hears_a_stop_signal(tmp_path: Path) -> None:
    code = "import sslx; sslx.run('vae', subset=200, out='run', device='cpu', train={'epochs': 9999, 'log_every': 1})"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert "Interrupted: stopped by SIGINT" in errors and checkpoint.steps(tmp_path / "run" / "checkpoints")


# --- lines ------------------------------------------------------------------------------------------------------------


def test_lack_of_memory_is_one_line(command: Command) -> None:
    arguments = ("--epochs", "1", "--subset", "64", "--set", "encoder.hidden=9000000000")
    code, _, errors = command("run", "-p", "vae", *arguments, "-o", "run")
    assert code == 1 and "there is not enough memory for " in errors and "Traceback" not in errors
    assert said(errors) == 1 and not Path("run").exists()  # it would be in the way of smaller networks


def test_an_unexpected_error_is_one_line_and_a_traceback_if_wanted(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLX_TRACEBACK", "")
    monkeypatch.setattr("sslx.runs.session.fingerprint", lambda halves: 1 / 0)
    arguments = ("run", "-p", "vae", "--epochs", "1", "--subset", "64")
    code, _, errors = command(*arguments)
    assert code == 1 and "sslx: ZeroDivisionError: division by zero (" in errors and said(errors) == 1
    code, _, errors = command("--traceback", *arguments)
    assert code == 1 and "Traceback" in errors


def test_names_reach_the_terminal_escaped(
    command: Command, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_, **__: False)  # as in a terminal
    name, folder = "evil\x1b[2J\nsslx: all is well", "folder\x1b[2J\nsslx: all is well"
    (tmp_path / folder).mkdir()
    tiny_run("random", name)
    for arguments in (
        *(("resume", folder), ("compare", folder), ("verify", folder), ("run", "-p", folder), ("plot", "curves", name)),
        *(("resume", name), ("compare", name), ("verify", name), ("eval", name, "-e", "knn"), ("report", name)),
        *(("run", "-p", "random", "--subset", "64", "-e", "knn", "-o", f"{folder}/run"), ("plugins", "show", name)),
    ):
        code, output, errors = command(*arguments)
        lines = (output + errors).splitlines()
        assert code in (0, 2) and lines and "\x1b" not in output + errors
        assert not any(line.startswith("sslx: all is well") for line in lines), (arguments, lines)


def test_a_table_replaces_a_link_and_is_not_written_through_it(
    command: Command, tiny_run: TinyRun, tmp_path: Path
) -> None:
    tiny_run("random", "run")
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run" / "table.md").symlink_to(tmp_path / "mine")
    assert command("compare", "run", "--out", "run/table.md").code == 0
    assert (tmp_path / "mine").read_text() == "mine" and "random" in (tmp_path / "run" / "table.md").read_text()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for link in ("x", ".x.draft"):
        (tmp_path / link).symlink_to(tmp_path / "mine")
    replace(tmp_path / "x", "yours")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "x").read_text() == "yours"
    assert not (tmp_path / "x").is_symlink()
    (tmp_path / "below" / "deep").mkdir(parents=True)
    untangled(tmp_path)
    (tmp_path / "below" / "deep" / "link").symlink_to("/tmp")
    with pytest.raises(ConfigError, match="below/deep/link: is a link"):
        untangled(tmp_path)


def test_a_budget_of_processor_time_is_said_with_a_cosine(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    train = {"epochs": 5000, "cpu_seconds": 0.05, "optimizer": {"use": "adam", "schedule": "cosine"}}
    tiny_run("vae", "run", train=train)
    assert "but the cosine schedule of the learning rate spans all of them" in capsys.readouterr().err
    tiny_run("vae", "warm", train={"epochs": 1, "optimizer": {"use": "adam", "warmup_epochs": 3.0}})
    assert "the learning rate rises during 3 epochs, and the training has 1" in capsys.readouterr().err
    train = {"epochs": 5000, "cpu_seconds": 0.05, "optimizer": {"use": "adam", "warmup_epochs": 4000.0}}
    tiny_run("vae", "rising", train=train)
    assert "of 30000, while the learning rate was rising; choose a smaller" in capsys.readouterr().err


def test_checkpoints_of_another_run_are_refused(stopped: Path, tiny_run: TinyRun, tmp_path: Path) -> None:
    other = tiny_run("vae", "other", seed=5)
    shutil.rmtree(stopped / "checkpoints")
    shutil.copytree(other.path / "checkpoints", stopped / "checkpoints")
    with pytest.raises(CheckpointError, match="belongs to a run with another config"):
        sslx.resume(stopped)


def test_the_command_that_a_stopped_training_names_evaluates_its_best_checkpoint(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    """The evaluators are those of the run, with its options and with others that are given."""
    words = "run -p vae -o run -e knn --subset 100 --epochs 9 --batch-size 16 --set evaluators.knn.neighbours=3"
    stop = "--set train.lr=0.1 --evaluate-every 1 --set train.stop.by=knn --set train.stop.patience=1"
    done = command(*words.split(), *stop.split())
    assert done.code == 0, done.errors
    advice = re.search(r"`sslx (eval run --checkpoint (\d+))` evaluates that checkpoint", done.errors)
    assert advice, done.errors
    done = command(*advice[1].split())
    assert done.code == 0 and f"note: knn of run is that of step {advice[2]}" in done.output, done.errors
    (result,) = json.loads((tmp_path / "run" / "results.json").read_text())["trained"].values()
    assert result["options"]["neighbours"] == 3
    assert command("eval", "run", "--set", "knn.neighbours=2").code == 0
    (result,) = json.loads((tmp_path / "run" / "results.json").read_text())["trained"].values()
    assert result["options"]["neighbours"] == 2
    done = command("eval", "run", "--set", "linear.max_iter=2")
    assert done.code == 2 and "--set linear: expected an option of one of the evaluators, knn" in done.errors
