"""A search: the trials of a real Optuna are runs like all others, and go on after any end as if there had been none."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import digest
from test_grid import launch, same

from sslx.core import files
from sslx.core.errors import CheckpointError, ConfigError
from sslx.core.toml import loads, read
from sslx.runs.grid import Grid
from sslx.runs.search import Search

optuna = pytest.importorskip("optuna", reason="the extra search is not installed")

Command = Callable[..., tuple[int, str, str]]
#: A method whose representation is the image with as much noise as an option says, so that its score is known to fall.
NOISY = """
import os, signal
from contextlib import suppress
import torch
from sslx.api import option
from sslx.families.vae import VAE

class Noisy(VAE):
    noise: float = option(default=0.0, help="Standard deviation.")
    limit: float = option(default=100.0, help="Noise from which on the loss is not finite.")

    def represent(self, x):
        drawn = torch.randn(len(x), x[0].numel(), generator=torch.Generator().manual_seed(0))
        return x.flatten(1) + self.noise * drawn.to(x)

    def forward(self, views):
        terms = super().forward(views)
        if self.noise > self.limit:
            terms["prior"] = terms["prior"]._replace(value=terms["prior"].value * torch.tensor(0.0).log())
        return terms

    def after_step(self, step):
        with suppress(FileNotFoundError):
            os.remove("bad")  # the first one does
            os.kill(os.getpid(), signal.SIGKILL)
"""
SEARCH = """
method = { use = "./noisy.py:Noisy", decoder.hidden = [16], encoder.hidden = [16] }
subset = 128
evaluators = ["knn"]
[train]
epochs = 3
log_every = 1
checkpoint_steps = 2
evaluate.every = 1
[search]
trials = 12
[search.space]
"noise" = { low = 0.01, high = 10, log = true }
"train.lr" = { low = 1e-4, high = 1e-2, log = true }
"encoder.dim" = { low = 2, high = 5 }
"encoder.hidden" = [[16], [8, 8]]
"""


def write(folder: Path, text: str = SEARCH, name: str = "s.toml") -> None:
    (folder / "noisy.py").write_text(NOISY)
    (folder / name).write_text(text)


def trials(folder: Path) -> dict[str, Any]:
    """The trials by the names of their runs, as Optuna itself reads the journal, without times."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / "search.journal")))
    found = optuna.load_study(study_name="search", storage=storage).get_trials()
    return {t.user_attrs["run"]: (t.params, t.intermediate_values, t.state.name, t.values) for t in found}


def equal(a: Path, b: Path) -> bool:
    """Trials, and of each run weights, metrics and config, to the byte; of those that are finished the scores."""
    found = trials(a)
    assert found == trials(b)
    for name, (_, _, state, _) in found.items():
        if state == "COMPLETE":
            assert same(a / name, b / name), name
        else:
            assert digest(a / name) == digest(b / name), name
            assert (a / name / "metrics.jsonl").read_bytes() == (b / name / "metrics.jsonl").read_bytes(), name
            assert not (a / name / "results.json").exists()
    return True


def test_a_search_ends_with_its_trials_by_score_and_the_best_is_repeated(command: Command, tmp_path: Path) -> None:
    write(tmp_path)
    code, out, errors = command("run", "--sweep", "s.toml", "--device", "cpu", "--out", "g")
    assert code == 0, errors
    found = trials(tmp_path / "g")
    assert [*found] == [f"trial-{n:02}" for n in range(1, 13)]
    for name, (params, values, state, value) in found.items():
        config = read(tmp_path / "g" / name / "config.toml")
        assert (
            config["method"]["noise"] == params["noise"] and config["method"]["encoder"]["dim"] == params["encoder.dim"]
        )
        assert config["train"]["optimizer"]["lr"] == params["train.lr"] and 2 <= params["encoder.dim"] <= 5
        assert config["method"]["encoder"]["hidden"] == json.loads(params["encoder.hidden"])
        records = map(json.loads, (tmp_path / "g" / name / "metrics.jsonl").read_text().splitlines())
        assert values == dict(enumerate((r["scores"]["held-out/knn"] for r in records if "scores" in r), 1))
        assert value == [values[max(values)]] and (state == "COMPLETE") is (max(values) == 3)
        assert (tmp_path / "g" / name / "results.json").exists() is (state == "COMPLETE")
    pruned = [name for name, trial in found.items() if trial[2] == "PRUNED"]
    assert pruned and all(f"{name}: pruned after epoch {max(found[name][1])} of 3" in errors for name in pruned)
    assert not set(pruned) & set(list(found)[:5])
    # Each pruned trial was worse than the median of the finished ones before it, and no finished one ever was.
    for number, (name, (_, values, _, _)) in enumerate(found.items()):
        before = [trial[1] for trial in list(found.values())[:number] if trial[2] == "COMPLETE"]
        for epoch in (1, 2) if len(before) >= 5 else ():
            if epoch in values:
                middle = sorted(each[epoch] for each in before)
                median = (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2
                worse = max(values[e] for e in range(1, epoch + 1)) < median
                assert worse is (name in pruned and epoch == max(values)), (name, epoch)
    # The table is sorted, and the line below it repeats the best.
    rows = [line.split() for line in out.splitlines() if line.startswith("trial-")]
    finished = [float(row[1]) for row in rows if row[3] == "finished"]
    assert finished == sorted(finished, reverse=True) and [row[3] for row in rows][-len(pruned) :] == ["pruned"] * len(
        pruned
    )
    best = max((n for n in found if n not in pruned), key=lambda n: found[n][3][0])
    assert f"best: {rows[0][0]}, held-out/knn {found[best][3][0]:.4f}: noise=" in out
    (again,) = re.findall(r"^`sslx (run --config .*)` repeats it$", out, re.M)
    assert command(*again.split(), "--trust-code", "--device", "cpu")[0] == 0
    assert (tmp_path / "NEW" / "metrics.jsonl").read_bytes() == (
        tmp_path / "g" / rows[0][0] / "metrics.jsonl"
    ).read_bytes()
    # The same command does nothing more, and the runs are like those of any grid.
    journal = (tmp_path / "g" / "search.journal").read_bytes()
    assert command("run", "--sweep", "s.toml", "--device", "cpu", "--out", "g")[:2] == (0, out)
    assert (tmp_path / "g" / "search.journal").read_bytes() == journal
    code, compared, _ = command("compare", "g")
    assert code == 0 and compared.count("Noisy (") == 12 - len(pruned)
    assert (
        command("report", "g", "--out", "page.html")[0] == 0
        and "12 runs of Noisy" in (tmp_path / "page.html").read_text()
    )
    code, said, errors = command("verify", "g", "--trust-code")
    assert code == 0 and "g/search.journal: ok" in said, said + errors
    (tmp_path / "s.toml").write_text(SEARCH.replace("high = 10", "high = 11"))
    code, _, errors = command("run", "--sweep", "s.toml", "--device", "cpu", "--out", "g")
    assert code == 2 and "g holds other runs" in errors
    # A run that was given up can still be finished on its own.
    assert command("resume", f"g/{pruned[0]}", "--trust-code")[0] == 0
    assert (tmp_path / "g" / pruned[0] / "results.json").exists() and trials(tmp_path / "g") == found


def test_a_search_that_is_killed_again_and_again_ends_as_one_that_was_not(command: Command, tmp_path: Path) -> None:
    write(tmp_path)
    arguments = ["run", "--sweep", "s.toml", "--device", "cpu", "--out"]
    assert command(*arguments, "whole")[0] == 0
    chosen, lines, kills = random.Random(0), 0, 0
    path = tmp_path / "killed" / "search.journal"
    while kills < 6:
        child = launch(tmp_path, *arguments, "killed")
        lines += chosen.randrange(3, 9)
        while child.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= lines):
            time.sleep(0.001)
        time.sleep(chosen.random() * 0.05)
        child.kill()
        kills += child.wait() == -signal.SIGKILL
        child.communicate()
        if child.returncode == 0:
            break
    assert kills >= 4
    assert command("resume", "killed", "--trust-code", "--device", "cpu")[0] == 0
    assert equal(tmp_path / "whole", tmp_path / "killed")


def test_more_trials_continue_a_search_as_if_it_had_been_longer(command: Command, tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, SEARCH.replace("trials = 12", "trials = 2"), "short.toml")
    write(tmp_path, SEARCH.replace("trials = 12", "trials = 3"), "long.toml")
    for sweep, out in (("short.toml", "g"), ("long.toml", "g"), ("long.toml", "whole")):
        code, said, errors = command("run", "--sweep", sweep, "--device", "cpu", "--out", out)
        assert code == 0 and f"{out}: " in said, errors
    assert equal(tmp_path / "g", tmp_path / "whole")
    assert Grid.open(tmp_path / "g").configs == Grid.open(tmp_path / "whole").configs
    code, _, errors = command("run", "--sweep", "short.toml", "--device", "cpu", "--out", "g")
    assert code == 2 and "g holds other runs" in errors


def test_a_stop_signal_stops_a_trial_and_it_goes_on_in_its_folder(command: Command, tmp_path: Path) -> None:
    write(tmp_path, SEARCH.replace("trials = 12", "trials = 2").replace("epochs = 3", "epochs = 40"))
    child = launch(tmp_path, "run", "--sweep", "s.toml", "--device", "cpu", "--out", "g")
    log = tmp_path / "g" / "trial-02" / "metrics.jsonl"
    while child.poll() is None and not log.exists():
        time.sleep(0.005)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 75 and "1 of 2 runs are finished; `sslx resume g` continues" in errors
    before = trials(tmp_path / "g")["trial-02"]
    assert before[2] == "RUNNING"
    code, out, errors = command("resume", "g", "--trust-code", "--device", "cpu")
    assert code == 0 and "g/trial-02: continues at step" in errors and "2 of 2 trials are finished" in out
    assert trials(tmp_path / "g")["trial-02"][0] == before[0]


def test_jobs_share_a_search_and_a_killed_one_is_continued(command: Command, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "bad").touch()
    child = launch(tmp_path, "run", "--sweep", "s.toml", "--device", "cpu", "--out", "g", "--jobs", "2")
    out, errors = child.communicate(timeout=240)
    (dead,) = json.loads((tmp_path / "g" / "failed.json").read_text())
    assert child.returncode == 1 and f"{dead} failed: its process was ended by SIGKILL" in errors, errors
    before = trials(tmp_path / "g")
    assert len(before) == 12 and before[dead][2] == "RUNNING" and f"{dead} " in out and "not finished" in out
    assert sum(trial[2] == "RUNNING" for trial in before.values()) == 1
    code, out, errors = command("resume", "g", "--trust-code", "--device", "cpu")
    assert code == 0 and errors.count("run ") == 1 and "not finished" not in out, errors
    after = trials(tmp_path / "g")
    assert after[dead][0] == before[dead][0] and after[dead][2] != "RUNNING"
    assert {**after, dead: None} == {**before, dead: None}
    # What two processes have begun ends the same, however often it was stopped; what they begin depends on what has ended.
    assert all((tmp_path / "g" / name / "config.toml").exists() for name in after)


def test_a_trial_whose_loss_is_not_finite_is_given_up_and_no_failure(command: Command, tmp_path: Path) -> None:
    write(
        tmp_path,
        SEARCH.replace("hidden = [16] }", "hidden = [16], limit = 0.05 }").replace("trials = 12", "trials = 4"),
    )
    code, out, errors = command("run", "--sweep", "s.toml", "--device", "cpu", "--out", "g")
    found = trials(tmp_path / "g")
    lost = {name for name, trial in found.items() if trial[0]["noise"] > 0.05}
    assert 0 < len(lost) < 4 and code == 0, errors
    assert {name for name, trial in found.items() if trial[2] == "PRUNED"} == lost
    assert all(re.search(f"^{name}: step 1: prior = ", errors, re.M) for name in lost)
    assert out.count(" nan ") == len(lost)


def test_choices_are_a_function_of_the_seed_and_of_what_has_ended(command: Command, tmp_path: Path) -> None:
    small = SEARCH.replace("trials = 12", "trials = 3\nby = 'random'").replace("epochs = 3", "epochs = 1")
    for name, text in {"a": small, "b": small, "c": small.replace("trials = 3", "trials = 3\nseed = 1")}.items():
        write(tmp_path, text)
        assert command("run", "--sweep", "s.toml", "--device", "cpu", "--out", name)[0] == 0
    a, b, c = (trials(tmp_path / name) for name in "abc")
    assert a == b and all(a[name][0] != c[name][0] for name in a)


# --- mistakes and harm ------------------------------------------------------------------------------------------------

MISTAKES = """
[search]\\nby = "tpa"|search.by: expected one of tpe, random, got 'tpa'
[search]\\ntrails = 3|search.trails: Searching has no option 'trails' (did you mean 'trials'?)
[search]\\ntrials = 0|search.trials: expected an integer > 0
[search]\\nscore = "linear"|search.score: expected a score that is measured during training, by knn, got 'linear'; train.evaluate.evaluators names them
search = 3|search: expected a table of options with a table `space`, got 3
[search]\\nspace = 3|search.space: expected a table with the values of each option, got 3
[search.space]|search.space: expected a table with the values of each option, got {}
[search.space]\\n"train.lr" = 3|search.space.train.lr: expected a list of choices or a table such as {low = 1e-4
[search.space]\\n"train.lr" = []|search.space.train.lr: expected a list of choices or a table such as {low = 1e-4
[search.space]\\n"train.lr" = {low = 1}|search.space.train.lr.high: Range needs this option
[search.space]\\n"train.lr" = {low = 1, high = 2, logs = true}|search.space.train.lr.logs: Range has no option 'logs' (did you mean 'log'?)
[search.space]\\n"train.lr" = {low = 1, high = 0.1}|search.space.train.lr: low: expected a number < high, which is 0.1, got 1
[search.space]\\n"train.lr" = {low = 0, high = 1, log = true}|search.space.train.lr: low: expected a number > 0 with log = true
[search.space]\\n"train.lr" = {low = -1.0, high = 1.0}|train.optimizer.lr: expected a number > 0, got -1.0
[search.space]\\n"train.lrr" = [0.1]|train.lrr: Training has no option 'lrr'; choose from
[search.space]\\n"prior" = ["mixtur"]|there is no prior 'mixtur' (did you mean 'mixture'?)
[search.space]\\n"encoder.dim" = {low = 1, high = 2.5}|encoder.dim: expected an integer
[search.space]\\n"train.lr" = [0.1]\\n"train.optimizer.lr" = [0.2]|search.space.train.optimizer.lr: train.lr is given twice
[search.space]\\nseed = [0, 1]|search.space.seed: is the same for all trials, as their scores are compared
[search.space]\\nmethod = ["vae", "ae"]|search.space.method: is the same for all trials
[search.space]\\n"train.evaluate.on" = ["test", "held-out"]|search.space.train.evaluate.on: is the same for all trials
[search.space]\\n"evaluators.knn.neighbours" = [1, 5]|search.space.evaluators.knn.neighbours: is the same for all trials
[search.space]\\n"dataset" = ["digits"]|search.space.dataset: is the same for all trials
""".strip().splitlines()


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_in_a_search_is_one_line(line: str, command: Command, tmp_path: Path) -> None:
    text, message = line.replace("\\n", "\n").split("|")
    if "space" not in text and "search = 3" not in text:
        text += '\n[search.space]\n"train.lr" = [0.1, 0.2]'
    (tmp_path / "s.toml").write_text(f'method.use = "vae"\nevaluators = ["knn"]\ntrain.evaluate.every = 1\n{text}\n')
    code, _, errors = command("run", "--sweep", "s.toml", "--out", "g")
    said = [each for each in errors.splitlines() if each.startswith("sslx: ")]
    assert code == 2 and len(said) == 1 and message in said[0] and "Traceback" not in errors, errors
    assert not (tmp_path / "g").exists()


TINY = 'method.use = "vae"\nevaluators = ["knn"]\nsubset = 64\n[search.space]\n"train.lr" = [0.1, 0.2]\n'


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("", "", "search.score: needs scores during training; set train.evaluate.every"),
        ("train.evaluate.every = 1", "--epochs 0", "a number of epochs up to train.epochs, which is 0"),
        ("train.evaluate.every = 1", "--seed 0,1", "search: expected one run whose options are searched"),
        ("train.evaluate.every = 1", "--restarts 2", "search: expected one run whose options are searched"),
        ("train.evaluate.every = 1\ngrid.seed = [0, 1]", "", "search: expected one run whose options are searched"),
        ("train.evaluate.every = 1", "--lr 0.1", "search.space.train.lr: is searched, and is given as an option as well"),
        ("train.evaluate.every = 1", "--launcher slurm", "--launcher: a search chooses the next run when others have ended"),
        ("train.evaluate = {every = 1, on = 'test'}", "", "train.evaluate.on: a search by test images would make"),
        ("train.evaluate.every = 1", "--set train.evaluate.on=test", "train.evaluate.on: a search by test images would make"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_is_refused(
    text: str, more: str, message: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "s.toml").write_text(f"{text}\n{TINY}")
    code, _, errors = command("run", "--sweep", "s.toml", *more.split(), "--out", "g")
    assert code == 2 and message in errors and errors.count("sslx: ") == 1 and not (tmp_path / "g").exists(), errors


def reseal(grid: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(grid.read_text())
    values.pop("sha256")
    change(values)
    grid.write_text(files.sealed(values))


def test_no_grid_searches_by_test_images_even_if_its_files_ask_for_it(command: Command, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(f"train = {{epochs = 1, evaluate.every = 1}}\nsearch.trials = 1\n{TINY}")
    assert command("run", "--sweep", "s.toml", "--out", "g")[0] == 0
    reseal(tmp_path / "g" / "grid.json", lambda v: v["runs"]["trial-01"]["train"]["evaluate"].update(on="test"))
    code, _, errors = command("resume", "g")
    assert code == 2 and "train.evaluate.on: a search by test images would make their scores meaningless" in errors


def test_a_score_that_the_evaluator_does_not_have_ends_the_search_at_the_first_evaluation(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "s.toml").write_text(f"train = {{epochs = 9, evaluate.every = 1}}\nsearch.score = 'knn.laten'\n{TINY}")
    code, _, errors = command("run", "--sweep", "s.toml", "--out", "g")
    assert code == 2 and "search.score: there is no 'knn.laten' during training; choose from knn, knn-" in errors
    assert not (tmp_path / "g" / "trial-02").exists() and "epoch 2/9" not in errors


def test_without_optuna_one_line_names_the_extra_and_tables_are_still_made(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(f"train = {{epochs = 1, evaluate.every = 1}}\nsearch.trials = 1\n{TINY}")

    def run(*arguments: str, optuna: bool = False) -> subprocess.CompletedProcess[str]:
        block = "" if optuna else "sys.modules['optuna'] = None; "
        code = f"import sys; {block}from sslx.cli import main; main({[*arguments]!r})"
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}
        )

    done = run("run", "--sweep", "s.toml", "--out", "g")
    assert done.returncode == 2 and not (tmp_path / "g").exists()
    assert done.stderr == "sslx: search: optuna is not installed: pip install 'sslx[search]'\n"
    assert run("run", "--sweep", "s.toml", "--out", "g", optuna=True).returncode == 0
    assert run("compare", "g").returncode == 0 and run("resume", "g").returncode == 2


@pytest.fixture
def journal(command: Command, tmp_path: Path) -> Path:
    """The journal of a search of two trials."""
    (tmp_path / "s.toml").write_text(f"train = {{epochs = 1, evaluate.every = 1}}\nsearch.trials = 2\n{TINY}")
    assert command("run", "--sweep", "s.toml", "--device", "cpu", "--out", "g")[0] == 0
    return tmp_path / "g" / "search.journal"


def test_a_damaged_journal_is_one_line_or_changes_nothing(journal: Path, command: Command) -> None:
    whole, chosen = journal.read_bytes(), random.Random(0)
    before, (_, table, _) = trials(journal.parent), command("resume", "g")
    for position in chosen.sample(range(len(whole)), 40):
        content = bytearray(whole)
        content[position] ^= 1 << chosen.randrange(8)
        journal.write_bytes(content)
        code, out, errors = command("resume", "g")
        if code == 0:
            assert out == table and trials(journal.parent) == before, position
        else:
            assert code == 1 and re.fullmatch(r"sslx: g/search\.journal: line \d+ is damaged\n", errors), errors
        code, out, _ = command("verify", "g")
        assert code == 0 or "g/search.journal: line" in out, out
    for end in [0, *chosen.sample(range(len(whole)), 10)]:  # what was lost is found in the folders, or done again
        journal.write_bytes(whole[:end])
        code, out, errors = command("resume", "g")
        assert (code, out) == (0, table) and trials(journal.parent) == before, errors


#: The operation of a line of the journal, and what it is changed to. 4 begins a trial, 7 is a score and 6 an end.
HOSTILE: list[tuple[int, dict[str, Any]]] = [
    (0, {"op_code": 99}),
    (0, {"directions": [1]}),
    (4, {"op_code": "x"}),
    (4, {"params": {"train.lr": 7}}),
    (4, {"params": {"train.lr": "os.system"}}),
    (4, {"params": {}, "distributions": {}}),
    (4, {"distributions": {"train.lr": '{"name": "os.system", "attributes": {}}'}}),
    (4, {"distributions": {"train.lr": '{"name": "CategoricalDistribution", "attributes": {"choices": [0.3, 0.4]}}'}}),
    (4, {"user_attrs": {"run": "../../x"}}),
    (4, {"user_attrs": {}}),
    (4, {"state": 77}),
    (7, {"intermediate_value": []}),
    (7, {"trial_id": [0]}),
    (6, {"state": 77}),
    (6, {"values": ["a"]}),
    (6, {"datetime_complete": 3}),
]


@pytest.mark.parametrize(("operation", "changed"), HOSTILE)
def test_a_hostile_journal_is_one_line(
    operation: int, changed: dict[str, Any], journal: Path, command: Command
) -> None:
    logs = [json.loads(line) for line in journal.read_text().splitlines()]
    next(log for log in logs if log["op_code"] == operation).update(changed)
    for log in logs:
        log.pop("sha256")
    journal.write_text("".join(json.dumps({**log, "sha256": files.digest(log)}) + "\n" for log in logs))
    code, _, errors = command("resume", "g")
    assert code == 1 and re.fullmatch(r"sslx: g/search\.journal: damaged: .*\n", errors), errors


def test_a_run_that_has_other_options_than_the_journal_is_refused(journal: Path, command: Command) -> None:
    used = read(journal.parent / "trial-01" / "config.toml")["train"]["optimizer"]["lr"]
    journal.unlink()
    reseal(
        journal.parent / "grid.json",
        lambda v: v["search"].update(seed=1 if used == 0.1 else 0, space={"train.lr": [0.3]}),
    )
    code, _, errors = command("resume", "g")
    assert code == 1 and f"g/trial-01: train.lr is {used}, but 0.3 in the journal of the search" in errors


def test_grid_json_of_a_search_is_checked(journal: Path) -> None:
    path = journal.parent / "grid.json"
    for change, message in (
        (lambda v: v["search"].update(trials="x"), "search.trials: expected an integer"),
        (lambda v: v["search"].update(trials=3), "expected 3 trials"),
        (lambda v: v["search"].update(space={"train.evaluate.on": ["test"]}), "is the same for all trials"),
    ):
        whole = path.read_text()
        reseal(path, change)
        with pytest.raises(CheckpointError, match=f"grid.json: damaged: .*{message}"):
            Grid.open(journal.parent)
        path.write_text(whole)


def test_a_search_is_read_as_it_was_written() -> None:
    table = loads("by = 'random'\nspace.train.lr = {low = 1e-4, high = 1}\nspace.'prior' = ['mixture', {use = 'vamp'}]")
    search = Search.read(table)
    assert Search.read(json.loads(json.dumps(search.plain()))).plain() == search.plain()
    assert [*search.space] == ["train.lr", "prior"]
    assert search.corners()[1:] == [{"train.lr": 1, "prior": "mixture"}, {"train.lr": 1e-4, "prior": {"use": "vamp"}}]
    with pytest.raises(ConfigError):
        Search.read({**table, "space": {}})
