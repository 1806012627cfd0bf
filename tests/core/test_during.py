"""Scores while a method is trained: they change nothing of the training, and a score may decide when it ends."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import digest
from sklearn.neighbors import KNeighborsClassifier
from test_resume import go_on, same, stop_at

import sslx
from sslx.api import (
    Context,
    Encoder,
    Evaluation,
    Evaluator,
    Method,
    Result,
    Split,
    Terms,
    Tracker,
    Views,
    hookimpl,
    option,
    pixels,
    slot,
)
from sslx.core import signals
from sslx.core.dotted import nest
from sslx.core.errors import ConfigError, Interrupted
from sslx.core.training import checkpoint, during
from sslx.core.training.config import Evaluating, configure
from sslx.core.training.run_folder import RunFolder
from sslx.data_loaders.datasets.digits import Digits
from sslx.outputs.tables import tables
from sslx.runs.data import chosen, watched
from sslx.runs.session import open_run

TinyRun = Callable[..., Any]
EACH: dict[str, Any] = {"evaluate": {"every": 1}}


class Counting(Method):
    """A method that counts its steps."""

    encoder: Encoder = slot(default="mlp", posterior="delta", hidden=(4,))

    def build(self, ctx: Context) -> Context:
        self.register_buffer("steps", torch.tensor(0))
        return super().build(ctx)

    def forward(self, views: Views) -> Terms:
        return Terms(spread=self.encoder(views.flat).mean.square().mean())

    def after_step(self, step: int) -> None:
        self.steps += 1

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x).mean


class Curve(Evaluator):
    """A score that is known for each epoch of six steps."""

    values: tuple[float, ...] = option(default=(0.5, 0.7, 0.6, 0.7, 0.65, 0.9), help="Score of each epoch.")

    def evaluate(self, evaluation: Evaluation) -> Result:
        score = self.values[int(evaluation.method.steps) // 6 - 1]
        return Result({"curve": score, "half": score / 2}, {}, "a curve")


class Fails(Evaluator):
    """An evaluator that spoils what it can reach, and then fails."""

    def evaluate(self, evaluation: Evaluation) -> Result:
        torch.manual_seed(1)
        evaluation.method.train()
        for weight in evaluation.method.parameters():
            weight.data.zero_()
        raise RuntimeError("no luck")


OBJECTS = [Counting, Curve]
STOPPED: dict[str, Any] = {
    "evaluators": {"curve": Curve()},
    "train": {
        "epochs": 6,
        "checkpoint_steps": 5,
        "evaluate": {"every": 1, "evaluators": ["curve"]},
        "stop": {"by": "curve", "patience": 3},
    },
}


def weights(path: Path, step: int) -> list[tuple[str, list[float]]]:
    shared, _ = checkpoint.load(checkpoint.at(path / "checkpoints", step))
    return [(name, value.tolist()) for name, value in shared["method"].items()]


class Killed(BaseException):
    """In the place of kill -9."""


def kill_at(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Let nothing happen any more from some moment on around the evaluation at step 12, which is the best."""
    log, rename, rmtree, evaluate = RunFolder.log, os.rename, shutil.rmtree, during.evaluate

    def logged(self: RunFolder, record: Mapping[str, Any]) -> None:
        log(self, record)
        if record["step"] == 12 and where == "after the scores are written":
            raise Killed

    def renamed(source: Any, target: Any) -> None:
        if str(target).endswith("step-000000012") and where == "before the best checkpoint is in place":
            raise Killed
        rename(source, target)

    def removed(path: Any, **options: Any) -> None:
        if "step-000000006" in str(path) and where == "before the earlier best is removed":
            raise Killed
        rmtree(path, **options)

    def evaluated(evaluators: Any, method: Any, *rest: Any, **options: Any) -> Any:
        if method.steps == 12 and where == "a stop signal within the evaluation":
            monkeypatch.setattr(signals, "_received", signal.SIGTERM)
        return evaluate(evaluators, method, *rest, **options)

    monkeypatch.setattr(RunFolder, "log", logged)
    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)
    monkeypatch.setattr(during, "evaluate", evaluated)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An early-stopped run that nothing interrupted."""
    return _stopped(tmp_path_factory.mktemp("whole") / "run")


def _stopped(path: Path, **options: Any) -> Any:
    train = {"batch_size": 16, "log_every": 5, **STOPPED["train"], **options}
    return sslx.run(Counting(), out=path, device="cpu", subset=100, **{**STOPPED, "train": train})


def test_training_stops_when_a_score_no_longer_improves(whole: Any) -> None:
    best = {"step": 12, "score": 0.7, "name": "held-out/curve", "since": 3}
    assert whole.training["best"] == best  # 0.7 again is no improvement
    assert checkpoint.steps(whole.path / "checkpoints") == [12, 25, 30]
    scores = whole.folder.scores()
    assert scores[1] == (12, {"held-out/curve": 0.7, "held-out/curve.half": 0.35})
    assert [step for step, _ in scores] == [6, 12, 18, 24, 30]
    assert [record["step"] for record in whole.folder.metrics()] == [5, 6, 10, 12, 15, 18, 20, 24, 25, 30]
    best = open_run(whole.path, checkpoint=12, objects=OBJECTS)
    assert best.method().steps == 12 and whole.method().steps == 30


@pytest.mark.parametrize(
    "where",
    [
        "a stop signal in the next step",
        "a stop signal within the evaluation",
        "after the scores are written",
        "before the best checkpoint is in place",
        "before the earlier best is removed",
    ],
)
def test_an_early_stopped_run_resumes_byte_for_byte(
    where: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "a stop signal in the next step":
        stop_at(monkeypatch, 13)
    else:
        kill_at(monkeypatch, where)
    with pytest.raises((Killed, Interrupted)):
        _stopped(tmp_path / "run")
    go_on(monkeypatch)
    assert not (tmp_path / "run" / "results.json").exists()
    if where == "a stop signal within the evaluation":  # which is completed, and the step is saved
        assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == 12
    run = sslx.resume(tmp_path / "run", objects=OBJECTS)
    assert same(tmp_path / "run", whole.path)
    assert run.training["best"] == whole.training["best"]
    assert weights(run.path, 12) == weights(whole.path, 12)


class Spy(Tracker):
    """Keeps what it is told."""

    def __attrs_post_init__(self) -> None:
        self.told: dict[int, Mapping[str, float]] = {}

    @hookimpl
    def sslx_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self.told[step] = dict(metrics)


def test_evaluations_during_training_change_nothing_of_it(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tiny_run("simclr", "plain")
    both, spy = {"knn": {"neighbours": 1}, "Fails": Fails}, Spy()
    train = {"evaluate": {"every": 1, "evaluators": ["knn", "Fails"]}}
    scored = tiny_run("simclr", "scored", train=train, evaluators=both, trackers=[spy])
    assert capsys.readouterr().err.count("no scores of Fails during training: RuntimeError: no luck") == 1
    assert digest(scored.path) == digest(plain.path)
    assert scored.folder.metrics() == plain.folder.metrics()

    data, config = chosen(scored.config, Digits().halves(Path(), True)), scored.config
    bank, queries = during.sample(data, config.train.evaluate, config.seed)
    method = scored.method()
    z, q = (method.represent(pixels(half.images)).detach().numpy() for half in (bank, queries))
    expected = KNeighborsClassifier(1).fit(z, bank.labels).score(q, queries.labels)
    last = scored.folder.scores()[-1][1]
    assert last["held-out/knn"] == pytest.approx(expected) and 0.2 < expected < 1
    assert spy.told[12]["held-out/knn"] == last["held-out/knn"] and "loss" in spy.told[12]


def test_nothing_is_in_the_bank_and_among_the_queries() -> None:
    def numbered(n: int, first: int, arity: int = 1) -> Split:
        images = torch.arange(first, first + n, dtype=torch.float32).reshape(n, 1, 1, 1)
        return Split(images, torch.arange(n) % 3, arity=arity)

    def drawn(**options: Any) -> list[list[int]]:
        data = numbered(n, 0, arity), numbered(40, 1000)
        halves = during.sample(data, Evaluating(**options), seed=3)
        return [half.images.flatten().int().tolist() for half in halves]

    n, arity = 90, 1
    bank, queries = drawn()
    assert sorted(bank + queries) == list(range(90)) and len(queries) == 18
    small, few = drawn(bank=20, queries=7)
    assert (len(small), len(few)) == (20, 7) and set(few) < set(queries) and not set(small) & set(few)
    assert drawn(bank=20, queries=7) == [small, few]
    bank, queries = drawn(on="test", queries=None)
    assert bank == list(range(90)) and queries == list(range(1000, 1040))
    arity = 3  # images that belong together stay together
    for images in drawn(bank=20, queries=7):
        assert images == [i + k for i in images[::3] for k in range(3)] and not any(i % 3 for i in images[::3])
    n, arity = 2, 1
    assert [len(images) for images in drawn()] == [1, 1]


def numbered(images: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images[:]}


def test_validation_images_are_neither_trained_on_nor_in_a_bank(tiny_run: TinyRun, tmp_path: Path) -> None:
    halves = Digits().halves(Path(), True)

    def parts(**options: Any) -> tuple[Split, Split]:
        config = configure({"method": "vae", "validation": 300, "train": {"evaluate": {"on": "validation"}}}, options)
        assert watched(config, halves, halves)[0].images.shape == chosen(config, halves)[0].images.shape
        return chosen(config, halves)[0], watched(config, halves, halves)[1]

    train, apart = parts()
    assert (len(train), len(apart)) == (1137, 300) and not numbered(train) & numbered(apart)
    assert numbered(train) | numbered(apart) == numbered(halves[0])
    few, same_apart = parts(subset=64)  # beside the same ones, and as if there were no validation images
    alone, _ = chosen(configure({"method": "vae", "subset": 64}), halves)
    assert torch.equal(same_apart.images[:], apart.images[:]) and torch.equal(few.images[:], alone.images[:])
    assert not torch.equal(parts(seed=1)[1].images[:], apart.images[:])

    class Sees(Evaluator):
        def evaluate(self, evaluation: Evaluation) -> Result:
            seen.append(evaluation)
            return Result({"sees": float(len(evaluation.data[0]))}, {}, "")

    seen: list[Evaluation] = []
    train_options = {"evaluate": {"every": 1, "on": "validation", "evaluators": ["knn", "Sees"], "queries": None}}
    evaluators = {"knn": {"neighbours": 1, "cosine_neighbours": []}, "Sees": Sees}
    run = tiny_run("ae", "run", subset=None, validation=1300, train=train_options, evaluators=evaluators)
    config = run.config
    kept, validated = chosen(config, halves)[0], watched(config, halves, halves)[1]
    assert run.data["samples"] == len(kept) == 137 and len(seen) == 2 + 2  # two epochs; trained and untrained
    for evaluation in seen[:2]:
        assert torch.equal(evaluation.data[1].images[:], validated.images[:])
        assert torch.equal(evaluation.data[0].images[:], kept.images[:])
    for evaluation in seen[2:]:
        assert torch.equal(evaluation.data[0].images[:], kept.images[:]) and len(evaluation.data[1]) == 360
    method = run.method()
    z, q = (method.represent(pixels(half.images[:])).detach().numpy() for half in (kept, validated))
    expected = KNeighborsClassifier(1).fit(z, kept.labels).score(q, validated.labels)
    assert run.folder.scores()[-1][1]["validation/knn"] == pytest.approx(expected)


def test_a_run_with_validation_resumes_byte_for_byte_and_keeps_its_images(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"validation": 50, "train": {"evaluate": {"every": 1, "on": "validation"}}}
    whole = tiny_run("vae", "whole", **options)
    stop_at(monkeypatch, 8)
    with pytest.raises(Interrupted):
        tiny_run("vae", "stopped", **options)
    go_on(monkeypatch)
    with pytest.raises(ConfigError, match="^validation: cannot change within a run"):
        sslx.resume(tmp_path / "stopped", changes={"validation": 40})
    with pytest.raises(ConfigError, match="out: .* holds another run: validation"):
        tiny_run("vae", "stopped", **options | {"validation": 40})
    sslx.resume(tmp_path / "stopped")
    assert same(whole.path, tmp_path / "stopped")
    assert "validation/knn" in whole.folder.scores()[0][1]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"train.evaluate.on": "validation"}, "train.evaluate.on: there are no validation images; set validation, "),
        ({"validation": 0}, "validation: expected an integer > 0"),
        ({"validation": 1437}, "validation: expected at most 1436, so that images are left for training, got 1437"),
        (
            {"validation": 1400, "subset": 38},
            "subset: expected at most 37, the number of images without those for vali",
        ),
    ],
)
def test_too_many_validation_images_are_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        chosen(configure({"method": "vae"}, nest(options)), Digits().halves(Path(), True))


class Unlabelled(Digits):
    """Digits without test labels."""

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        train, test = super().load(folder, offline)
        return train, Split(test.images)


def test_test_labels_are_used_only_if_asked_for(tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run("ae", "run", dataset=Unlabelled, train=EACH)
    assert [step for step, _ in run.folder.scores()] == [6, 12] and "held-out/knn" in run.folder.scores()[0][1]
    capsys.readouterr()
    asked = {"evaluate": {"every": 1, "on": "test"}, "stop": {"by": "knn"}}
    run = tiny_run("ae", "asked", dataset=Unlabelled, train=asked)  # no score decides, and training goes on
    assert "no scores of knn during training: the test set has no labels" in capsys.readouterr().err
    assert run.folder.scores() == [] and "best" not in run.training and run.folder.metrics()[-1]["step"] == 12
    run = tiny_run("ae", "decided", train=asked)
    assert "test/knn" in run.folder.scores()[0][1]
    (table,) = tables([run])
    (note,) = [note for note in table.notes if "test labels" in note]
    assert "on=test" in note and "optimistic" in note


def test_the_best_evaluation() -> None:
    def found(values: list[float], by: str = "knn", **stop: Any) -> tuple[int, int] | None:
        train = {"evaluate": {"every": 1, "evaluators": [by]}, "stop": {"by": by, **stop}}
        config = configure({"method": "vae", "evaluators": [by], "train": train})
        best = during.best_of([(i, {f"held-out/{by}": v, f"test/{by}": 2.0}) for i, v in enumerate(values)], config)
        return best and (best.step, best.since)

    nan = float("nan")
    assert found([0.1, 0.3, 0.3, 0.2]) == (1, 2)
    assert found([0.1, 0.3, 0.2, 0.31], improvement=0.1) == (1, 2)
    assert found([3, 1, 2], prefer="smallest") == found([3, 1, 2], by="reconstruction") == (1, 1)
    assert found([nan, 0.1, nan, 0.0]) == (1, 1)
    assert found([]) is None and found([nan]) is None
    assert during.best_of([(1, {"held-out/knn": 1.0})], configure({"method": "vae"})) is None


@pytest.mark.parametrize(
    "options, said",
    [
        ({"train.stop.by": "knn"}, "train: stop.by: needs scores during training; set train.evaluate.every"),
        (
            {"train.evaluate.every": 1, "train.stop.by": "x"},
            "stop.by: expected a score of an evaluator, such as knn, got 'x'",
        ),
        ({"train.evaluate.every": 0}, "train.evaluate.every: expected an integer > 0"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configure({"method": "vae"}, nest(options))


def test_the_command_line_evaluates_during_training(command: Any, tmp_path: Path) -> None:
    small = ("run", "-p", "ae", "--subset", "100", "--epochs", "2", "--evaluate-every", "2", "--device", "cpu")
    code, _, errors = command(*small, "-e", "linear", "-o", "wrong")
    assert code == 2 and "train.evaluate.evaluators: expected evaluators of the run, linear; got knn" in errors
    assert not (tmp_path / "wrong").exists()
    code, _, errors = command(*small, "-e", "knn", "-o", "run", "--set", "train.stop.by=knn")
    assert code == 0 and "held-out/knn 0." in errors
    assert [step for step, _ in RunFolder(tmp_path / "run").scores()] == [2]
