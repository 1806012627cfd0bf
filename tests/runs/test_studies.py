"""Studies: which runs they need, that each is trained once, and that the page says what the runs reached."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from conftest import digest

from sslx.core.errors import ConfigError
from sslx.core.options import make
from sslx.core.study import Study
from sslx.core.training.run import Launch
from sslx.runs.studies import Reproduction, recipe, summary
from sslx.runs.study_page import write_page

Command = Callable[..., tuple[int, str, str]]
TABLE = """
title = "A table"
paper = "A paper, Table 1"
spread = "SPREAD"
centre = "CENTRE"
seeds = 3
better = [["Second", "First"]]
deviations = ["The digits are other ones."]

[options]
dataset = "digits"
subset = 64
encoder.hidden = [16]
train.epochs = 3

[[columns]]
name = "kNN %"
score = "knn.knn"
scale = 100

[[columns]]
name = "linear"
score = "linear.linear"
digits = 3

[[rows]]
name = "First"
options = { method = "random" }

[[rows]]
name = "Second"
options = { method = "vae" }

[[rows]]
name = "Gain"
gain = [["Second"], ["First"]]

[[rows]]
name = "Third"
missing = "it is not described"

[[blocks]]
name = "digits"
[blocks.printed]
First = ["39.7 ± 2.4", 0.5]
Second = ["80", "-"]

[[blocks]]
name = "faces"
files = "no-such-folder"
options = { dataset = "celeba" }

[budgets.cpu]
options = { train.epochs = 1 }

[budgets.paper]
"""


def write(path: Path, text: str = TABLE, spread: str = "deviation", centre: str = "median", **changes: str) -> Path:
    text = text.replace("SPREAD", spread).replace("CENTRE", centre)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def of(path: Path, budget: str, folder: Path, **more: Any) -> Reproduction:
    return Reproduction.of(str(path), budget, folder, Launch("cpu", data_dir=folder), **more)


def contents(path: Path) -> dict[Path, tuple[int, bytes]]:
    files = (file for file in path.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def results(folder: Path, study: Reproduction, row: str, which: str = "trained") -> list[dict[str, Any]]:
    names = [task.name for task in study.tasks if task.row.name == row]
    return [json.loads((folder / name / "results.json").read_text())[which] for name in names]


def test_a_table_has_the_scores_of_its_runs_and_a_second_time_changes_nothing(command: Command, tmp_path: Path) -> None:
    file, folder = write(tmp_path / "mine.toml"), tmp_path / "runs"
    code, out, errors = command("reproduce", "./mine.toml", "--budget", "cpu", "--runs", "runs", "--device", "cpu")
    assert code == 0, errors
    assert out.splitlines()[-2:] == ["runs/mine-cpu/index.html", "runs/mine-cpu/index.md"]
    study = of(file, "cpu", folder)
    with open(folder / "mine-cpu" / "table.csv") as opened:
        rows = {(row["block"], row["row"], row["column"]): row for row in csv.DictReader(opened)}
    for name in ("First", "Second"):
        found = results(folder, study, name)
        assert len(found) == 3
        for column, evaluator, scale in (("kNN %", "knn", 100), ("linear", "linear", 1)):
            values = [scale * each[evaluator]["scores"][evaluator] for each in found]
            row = rows["digits", name, column]
            assert float(row["ours"]) == pytest.approx(sorted(values)[1], abs=1e-12) and row["n"] == "3"
            assert float(row["spread"]) == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert (rows["digits", "First", "kNN %"]["paper"], rows["digits", "First", "kNN %"]["paper spread"]) == (
        "39.7",
        "2.4",
    )
    gain = float(rows["digits", "Second", "kNN %"]["ours"]) - float(rows["digits", "First", "kNN %"]["ours"])
    assert float(rows["digits", "Gain", "kNN %"]["ours"]) == pytest.approx(gain, abs=1e-9)
    assert rows["digits", "Third", "linear"]["reason"] == "it is not described"
    assert re.fullmatch("needs data: there is no .*/no-such-folder", rows["faces", "Second", "linear"]["reason"])
    floors = [each["knn"]["scores"]["knn"] for each in results(folder, study, "First", "pixels")]
    assert float(rows["digits", "pixels", "kNN %"]["ours"]) == pytest.approx(100 * sorted(floors)[1], abs=1e-12)
    page = (folder / "mine-cpu" / "index.md").read_text()
    assert "39.7 ± 2.4" in page and "Median ± standard deviation over 3 seeds." in page
    assert "- train.epochs: 1, paper 3" in page and "The digits are other ones." in page
    assert "- it is not described: Third of digits, faces\n" in page
    assert re.search(r"^- needs data: there is no .*: First, Second of faces$", page, re.MULTILINE)
    assert re.search(r"^\| pixels \| \d\d\.\d", page, re.MULTILINE) and re.search(r"^\| pca \|", page, re.MULTILINE)
    assert re.search(r"^Second against First: above in \d of 2 scores and below in \d", page, re.MULTILINE)
    before = contents(folder)
    code, again, errors = command("reproduce", "./mine.toml", "--budget", "cpu", "--runs", "runs", "--device", "cpu")
    assert code == 0 and "0 of 6 runs to train" in again, errors
    after = contents(folder)
    assert {path: text for path, (_, text) in after.items()} == {path: text for path, (_, text) in before.items()}
    runs = [path for path in after if path.parts[-2] != "mine-cpu"]
    assert runs and all(before[path][0] == after[path][0] for path in runs)
    reports = [folder / task.name / "report.html" for task in study.tasks]
    for report in reports:
        report.touch()
    (html, *_) = write_page(study, tmp_path / "a page")
    links = re.findall(r'href="(\.\./[^"]+)"', html.read_text())
    assert [(html.parent / unquote(link)).resolve() for link in links] == reports


def test_studies_share_runs_and_add_what_they_score(tmp_path: Path) -> None:
    first = of(write(tmp_path / "first.toml"), "cpu", tmp_path / "runs", only=["Second"])
    assert first.carry_out() == []
    linear = 'name = "linear"\nscore = "linear.linear"'
    file = write(tmp_path / "second.toml", **{linear: 'name = "rank"\nscore = "geometry.rankme"'})
    second = of(file, "cpu", tmp_path / "runs", only=["Second"])
    assert [task.name for task in second.tasks] == [task.name for task in first.tasks]
    before = {task.name: digest(tmp_path / "runs" / task.name) for task in first.tasks}
    assert second.carry_out() == []
    assert {task.name: digest(tmp_path / "runs" / task.name) for task in first.tasks} == before
    assert len(list((tmp_path / "runs").glob("vae-*"))) == 3
    cells = {
        cell.column.name: cell for cell in second.cells() if cell.row.name == "Second" and cell.block.name == "digits"
    }
    assert len(cells["rank"].values) == 3 and {cell.row.name for cell in second.cells()} == {"Second"}
    assert all(len(cell.values) == 3 for cell in first.cells() if cell.block.name == "digits")  # nothing was lost
    page = write_page(first, tmp_path / "page")[1].read_text()
    assert "| Second |" in page and "| First |" not in page


def test_a_run_stays_when_sslx_has_a_new_option_and_not_when_a_default_has_changed(tmp_path: Path) -> None:
    study = of(write(tmp_path / "mine.toml"), "cpu", tmp_path / "runs", only=["Second"])
    assert study.carry_out() == []
    names = [task.name for task in study.tasks]
    first, second = (tmp_path / "runs" / name / "config.toml" for name in names[:2])
    option = "decay_vectors = false\n"  # as if sslx had not had this option yet, and another rate in the second run
    first.write_text(first.read_text().replace(option, ""))
    assert option not in first.read_text() and option in second.read_text()
    second.write_text(re.sub(r"(\[train.optimizer\](?:.|\n)*?\nlr = )\S+", r"\g<1>0.125", second.read_text()))
    again = of(tmp_path / "mine.toml", "cpu", tmp_path / "runs", only=["Second"])
    assert [task.name for task in again.tasks] == [names[0], f"{names[1]}-2", names[2]]


def test_blocks_with_one_training_may_score_other_images(tmp_path: Path) -> None:
    """Whichever is first, each has its own scores, and the training set of the own ones is the subset."""
    other = 'name = "other"\n[blocks.options]\neval_dataset = { use = "stand-in", size = 8, grey = true }\n[[blocks]]\n'
    file = write(
        tmp_path / "mine.toml", **{'name = "digits"\n[blocks.printed]': f'{other}name = "digits"\n[blocks.printed]'}
    )
    study = of(file, "cpu", tmp_path / "runs", only=["Second"])
    assert study.carry_out() == [] and len({task.name for task in study.tasks}) == 3 and len(study.tasks) == 6
    before = contents(tmp_path / "runs")
    assert study.carry_out() == [] and contents(tmp_path / "runs") == before
    alone = of(write(tmp_path / "alone.toml"), "cpu", tmp_path / "alone", only=["Second"])
    assert alone.carry_out() == []
    values = {cell.block.name: cell.values for cell in study.cells() if cell.column.name == "kNN %"}
    expected = {cell.block.name: cell.values for cell in alone.cells() if cell.column.name == "kNN %"}
    assert values["digits"] == expected["digits"] and len(values["other"]) == 3 and values["other"] != values["digits"]


def test_a_figure_that_cannot_be_drawn_is_said_before_and_after_the_runs(command: Command, tmp_path: Path) -> None:
    figure = '\n[[figures]]\nkind = "KIND"\ntitle = "Points"\n'
    write(tmp_path / "typo.toml", TABLE + figure.replace("KIND", "plane"))
    code, _, errors = command("reproduce", "./typo.toml", "--budget", "cpu")
    assert code == 2 and "figures: there is no kind 'plane' (did you mean 'planes'?)" in errors
    assert not (tmp_path / "runs").exists()
    study = of(
        write(tmp_path / "mine.toml", TABLE + figure.replace("KIND", "planes")),
        "cpu",
        tmp_path / "runs",
        only=["Second"],
    )
    assert study.carry_out() == []
    page = write_page(study, tmp_path / "page")[1].read_text()
    assert "Points: cannot be drawn: " in page and "| Second |" in page


def test_a_folder_of_images_that_is_not_there_is_missing_data(command: Command, tmp_path: Path) -> None:
    said = command("reproduce", "list")[1]
    assert re.search(r"^simclr-imagenette .*: 1 cell without data: imagenette2-160$", said, re.MULTILINE)
    shown = command("reproduce", "show", "simclr-imagenette", "--budget", "paper")[1]
    assert "not run: SimCLR of Imagenette: needs data: there is no imagenette2-160" in shown
    (tmp_path / "imagenette2-160").mkdir()
    assert re.search(r"^simclr-imagenette .*: 1 cell ready$", command("reproduce", "list")[1], re.MULTILINE)


def test_blocks_in_a_plane_are_a_table_with_a_line_for_each_y(tmp_path: Path) -> None:
    figure = '\n[[figures]]\nkind = "heat"\noptions = { xlabel = "size", ylabel = "rate" }\n'
    changed = {
        f'name = "{name}"': f'name = "{name}"\nx = {x}\ny = 0.5' for name, x in (("digits", 1.0), ("faces", 3.0))
    }
    study = of(write(tmp_path / "mine.toml", TABLE + figure, **changed), "cpu", tmp_path / "runs", only=["Second"])
    lines = write_page(study, tmp_path / "page")[1].read_text().splitlines()
    top = lines.index("| rate, across size | 1 | 3 |")
    assert lines[top + 2 : top + 4] == ["| 0.5 | - | - |", ""]


def test_images_of_blocks_with_other_data_are_a_figure_each(tmp_path: Path) -> None:
    other = 'name = "other"\n[blocks.options]\ndataset = { use = "stand-in", size = 8, grey = true }\n[[blocks]]\n'
    figure = '\n[[figures]]\nkind = "images"\ntitle = "Pictures"\noptions = { of = "reconstructions", count = 2 }\n'
    changed = {
        'name = "digits"\n[blocks.printed]': f'{other}name = "digits"\n[blocks.printed]',
        "seeds = 3": "seeds = 1",
    }
    file = write(tmp_path / "mine.toml", TABLE + figure, **changed)
    study = of(file, "cpu", tmp_path / "runs", only=["Second"])
    assert study.carry_out() == []
    page = write_page(study, tmp_path / "page")[1].read_text()
    assert "cannot be drawn" not in page and "Pictures, other" in page and "Pictures, digits" in page
    assert {"figure-1.png", "figure-2.png"} < {path.name for path in (tmp_path / "page").iterdir()}


@pytest.mark.skipif(not os.environ.get("SSLX_LONG"), reason="takes half a minute; SSLX_LONG=1 runs it")
def test_two_processes_fill_the_same_table(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", **{"seeds = 3": "seeds = 1"})
    arguments = ["reproduce", str(file), "--budget", "cpu", "--device", "cpu", "--devices", "2", "--only", "Second"]
    done = subprocess.run(
        [sys.executable, "-m", "sslx", *arguments, "--runs", str(tmp_path / "runs")],
        env={**os.environ, "SSLX_DATA": str(tmp_path)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0 and "1 of 1 runs to train" in done.stdout, done.stderr
    cells = of(file, "cpu", tmp_path / "runs", only=["Second"]).cells()
    assert [len(cell.values) for cell in cells if cell.block.name == "digits"] == [1, 1]


def test_a_killed_study_goes_on_and_ends_like_any_other(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml")
    arguments = ["reproduce", str(file), "--budget", "cpu", "--device", "cpu", "--only", "Second", "--runs"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sslx", *arguments, str(tmp_path / "killed")],
        env={**os.environ, "SSLX_DATA": str(tmp_path)}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("vae-*/results.json")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= len(list((tmp_path / "killed").glob("vae-*/results.json"))) < 3
    killed = of(file, "cpu", tmp_path / "killed", only=["Second"])
    assert killed.carry_out() == []
    whole = of(file, "cpu", tmp_path / "whole", only=["Second"])
    assert whole.carry_out() == []
    for task in whole.tasks:
        assert digest(tmp_path / "killed" / task.name) == digest(tmp_path / "whole" / task.name)
    assert [cell.values for cell in killed.cells()] == [cell.values for cell in whole.cells()]


def test_options_are_those_of_study_block_row_and_budget_in_this_order(tmp_path: Path) -> None:
    text = TABLE.replace('options = { method = "vae" }', 'options = { method = "vae", train.epochs = 4, beta = 2 }')
    text = text.replace(
        "[blocks.printed]",
        "options = { train.epochs = 9, train.batch_size = 8 }\n"
        "[blocks.rows.Second]\noptions = { train.lr = 0.5, beta = 3 }\n[blocks.printed]",
    )
    text = text.replace("options = { train.epochs = 1 }", 'drop = ["encoder"]\nby_row = { Second = { subset = 32 } }')
    file = write(tmp_path / "mine.toml", text)
    study = of(file, "cpu", tmp_path)
    block, row = next(pair for pair in study.places() if pair[1].name == "Second")
    assert study.design.options_of(block, row, "cpu") == {
        "dataset": "digits", "subset": 32, "train.epochs": 4, "train.batch_size": 8, "method": "vae", "beta": 3,
        "train.lr": 0.5,
    }  # fmt: skip
    assert study.changes(block, row) == {"subset": (32, 64), "encoder.hidden": (None, [16])}
    config = study.config(block, row, seed=5)
    assert (config.seed, config.train.batch_size, list(config.evaluators)) == (5, 8, ["knn", "linear"])


def test_a_file_like_another_one_has_its_keys_and_those_that_it_is_like(tmp_path: Path) -> None:
    write(tmp_path / "first.toml")
    (tmp_path / "second.toml").write_text('like = "first.toml"\nseeds = 5')
    (tmp_path / "third.toml").write_text('like = "second.toml"\ntitle = "Another"')
    design = make(Study, str(tmp_path / "third.toml"), "study").design()
    assert (design.title, design.seeds, design.paper) == ("Another", 5, "A paper, Table 1")
    (tmp_path / "first.toml").write_text('like = "third.toml"')
    with pytest.raises(ConfigError, match="like: expected a file that is not like this one"):
        make(Study, str(tmp_path / "third.toml"), "study").design()


def test_means_errors_medians_and_deviations_are_those_of_statistics() -> None:
    values = [1.0, 4.0, 2.5, 9.0]
    assert summary(values, "mean", "error") == (statistics.fmean(values), statistics.stdev(values) / 2)
    assert summary(values, "median", "deviation") == (3.25, statistics.stdev(values))
    assert summary([7.0], "mean", "error")[0] == 7 and math.isnan(summary([7.0], "mean", "error")[1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('better = [["Second", "First"]]', 'better = [["Secnd", "First"]]', r"better: 'Secnd' is not one of the rows .*'Second'"),
        ("seeds = 3", "sedes = 3", r"the file.sedes: is unknown .*'seeds'"),
        ("scale = 100", 'scale = "much"', r"columns\[0\].scale is 'much', expected a number"),
        ('"39.7 ± 2.4"', '"about 40"', "printed: expected a number, .* got 'about 40'"),
        ('First = ["39.7 ± 2.4", 0.5]', "First = [1]", "blocks.digits.printed.First: expected a value for each column"),
        ('name = "Third"', 'name = "Second"', "rows: two are called 'Second'"),
        ('method = "vae"', 'method = "veo"', "Second of digits: method: there is no method 'veo'"),
        ("subset = 64", "subset = -1", "First of digits: subset: expected"),
        ('score = "knn.knn"', 'score = "nkn.knn"', "nkn: there is no evaluator 'nkn'.*'knn'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", **{old: new})
    with pytest.raises(ConfigError, match=message) as error:
        of(file, "cpu", tmp_path).tasks  # noqa: B018
    assert all("\n" not in line and ("mine" in line) for line in error.value.problems)


def test_unknown_budgets_rows_and_studies_are_one_line(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "mine.toml")
    for arguments, message in (
        (["./mine.toml", "--budget", "much"], "has no budget 'much', expected one of cpu, paper"),
        (["./mine.toml", "--budget", "cpu", "--only", "Secnd"], "has no row 'Secnd' (did you mean 'Second'?)"),
        (["gedi-tabel-2"], "there is no study 'gedi-tabel-2' (did you mean 'gedi-table-2'?)"),
        (["show"], "expected the name of a study"),
        (["./nothing.toml"], "cannot be read"),
    ):
        code, _, errors = command("reproduce", *arguments)
        assert code == 2 and message in errors and len(errors.splitlines()) == 1, errors


def test_a_recipe_is_a_study_of_one_row(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "mine.toml")
    with pytest.raises(ConfigError, match="mine.toml has .* runs, expected a study of one"):
        recipe(str(tmp_path / "mine.toml"))
    text = TABLE[: TABLE.index("[[rows]]")] + '[[rows]]\nname = "A"\noptions.method = "vae"\n[[blocks]]\nname = "B"\n'
    write(tmp_path / "one.toml", text.replace('better = [["Second", "First"]]', "") + "[budgets.paper]\n")
    code, out, errors = command("run", "--recipe", "./one.toml", "--epochs", "1", "--out", "r", "--device", "cpu")
    assert code == 0 and "vae" in out, errors
    config = (tmp_path / "r" / "config.toml").read_text()
    assert "epochs = 1\n" in config and "subset = 64" in config and "[evaluators.linear]" in config


def test_every_built_in_study_is_listed_with_its_state(command: Command) -> None:
    code, out, errors = command("reproduce", "list")
    assert code == 0, errors
    names = [line.split()[0] for line in out.splitlines()]
    assert "gedi-table-2" in names and all(" cell" in line for line in out.splitlines())
    for name in names:
        design = make(Study, name, "study").design()
        assert {"smoke", "cpu", "paper"} <= design.budgets.keys() and design.paper
