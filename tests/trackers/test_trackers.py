"""Trackers see what the run records, and none of them can stop it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import reseal

RUN = ["run", "-p", "vae", "--subset", "64", "--epochs", "3", "--set", "train.log_every=1", "-e", "knn", "-o", "run"]
HEAD = "from sslx.api import Tracker, hookimpl\nimport sys\n\nclass T(Tracker):\n"


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_has_the_terms_scores_and_pictures_of_a_run(command: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    code, _, errors = command(*RUN, "--track", "tensorboard")
    assert code == 0 and "muted" not in errors, errors
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    records = logged(tmp_path / "run")
    assert len(records) == 3
    for name in records[0].keys() - {"step"}:
        found = events.Scalars(f"train/{name}")
        assert [event.step for event in found] == [record["step"] for record in records]
        assert [event.value for event in found] == pytest.approx([record[name] for record in records], rel=1e-6)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for who in ("trained", "untrained"):
        (event,) = events.Scalars(f"{who}/knn/knn")
        assert event.value == pytest.approx(results[who]["knn"]["scores"]["knn"])
    assert set(events.Tags()["images"]) == {"reconstructions", "samples", "similarity", "similarity-views", "posterior"}
    code, _, errors = command("eval", "run", "-e", "gmm")  # goes on with it
    assert code == 0 and "muted" not in errors
    assert any(tag.startswith("trained/gmm/") for tag in events.Reload().Tags()["scalars"])


def test_trackio_has_the_terms_and_scores_of_a_run(sslx_command: Any, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    done = sslx_command(*RUN, "--track", "trackio:digits", TRACKIO_DIR=str(tmp_path / "trackio"))
    assert done.returncode == 0 and "muted" not in done.stderr, done.stderr
    assert "rackio" not in done.stdout  # which is for tables
    (line,) = (line for line in done.stderr.splitlines() if "rackio" in line)
    assert "`trackio show --project digits` opens its dashboard" in line and "\x1b" not in done.stderr
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = [(step, json.loads(text)) for step, text in connection.execute("select step, metrics from metrics")]
    records = logged(tmp_path / "run")
    found = {step: row for step, row in rows if "loss" in row}
    assert found == {record.pop("step"): record for record in records}
    (scores,) = (row for _, row in rows if "trained/knn/knn" in row)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert scores["trained/knn/knn"] == results["trained"]["knn"]["scores"]["knn"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    @hookimpl\n    def sslx_metrics(self): raise OSError('dashboard is down')", "dashboard is down"),
        (
            "    @hookimpl\n    def sslx_run_start(self, run): import no_such_package",
            "No module named 'no_such_package'",
        ),
        ("    @hookimpl\n    def sslx_run_end(self): sys.exit(3)", "3"),
    ],
)
def test_a_failing_tracker_is_muted_with_one_line_and_changes_nothing(
    body: str, reason: str, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "t.py").write_text(HEAD + body)
    code, output, errors = command(*RUN, "--track", "./t.py:T")
    assert code == 0 and "knn" in output
    assert errors.count("is muted: ") == 1 and f"is muted: {reason}" in errors
    command(*RUN[:-1], "plain")
    assert logged(tmp_path / "run") == logged(tmp_path / "plain")


SEEN = """    @hookimpl
    def sslx_run_start(self, run): self.seen = [run.name]
    @hookimpl
    def sslx_epoch_end(self, epoch): self.seen.append(epoch)
    @hookimpl
    def sslx_checkpoint(self, path): self.seen.append(path.name)
    @hookimpl
    def sslx_evaluated(self, report): self.seen.append(sorted(report))
    @hookimpl
    def sslx_run_end(self, error): print(self.seen, error)
"""


def test_each_run_has_a_tracker_of_its_own_that_sees_it_from_start_to_end(command: Any, tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text(HEAD + SEEN)
    _, output, _ = command(*RUN, "--seed", "0,1", "--track", "./t.py:T")
    expected = "['vae', 0, 1, 'step-000000003', 2, ['data', 'pca', 'pixels', 'trained', 'untrained']] None"
    assert [line for line in output.splitlines() if line.startswith("[")] == [expected, expected]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "there is no tracker 'tensorbord' (did you mean 'tensorboard'?)"),
        ("trackio", "track.project: trackio needs this option"),
        ("./t.py:T", "steps"),
    ],
)
def test_a_wrong_tracker_is_one_line_before_anything_is_trained(
    name: str, message: str, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "t.py").write_text(HEAD + "    @hookimpl\n    def sslx_metrics(self, steps): pass")
    code, _, errors = command(*RUN, "--track", name)
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["run/t.py", "t.py"])
def test_a_tracker_that_came_with_the_run_of_someone_else_is_not_executed(
    place: str, command: Any, tmp_path: Path
) -> None:
    assert command(*RUN)[0] == 0
    (tmp_path / place).write_text(HEAD + "    pass\nraise SystemExit('executed')")
    named = [f"{tmp_path / place if place == 'run/t.py' else place}:T"]
    reseal(tmp_path / "run" / "run.json", lambda facts: facts["launch"].update(trackers=named))
    code, _, errors = command("eval", "run", "-e", "gmm")
    assert code == 2 and "--trust-code" in errors and errors.count("\n") == 1
