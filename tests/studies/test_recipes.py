"""Recipes: studies of one run, with what was published beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslx.core.options import to_dict
from sslx.core.training.run import Launch
from sslx.runs.studies import Reproduction, recipe
from sslx.studies import RECIPES

NAMES = [name for name, *_ in RECIPES]


@pytest.mark.parametrize("name", NAMES)
def test_a_smoke_run_of_a_recipe_makes_one_step_and_fills_every_cell(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLX_REPORT", "no")
    study = Reproduction.of(name, "smoke", tmp_path, Launch("cpu", data_dir=tmp_path))
    if any(column.evaluator == "fid" for column in study.design.columns):
        pytest.importorskip("torch_fidelity", reason="FID needs torch-fidelity: pip install 'sslx[fid]'")
    assert study.carry_out() == []
    (task,) = study.tasks
    assert all(len(cell.values) == 1 for cell in study.cells())
    assert '"step": 1,' in (tmp_path / task.name / "metrics.jsonl").read_text().splitlines()[-1]


def given(name: str, block: str | None = None, row: str | None = None) -> dict[str, object]:
    """The complete config of a study's run at the budget of its paper."""
    study = Reproduction.of(name, "paper", Path())
    (place,) = [(b, r) for b, r in study.places() if block in (None, b.name) and row in (None, r.name)]
    return to_dict(study.config(*place))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_was_published_and_is_one_run(name: str) -> None:
    design = Reproduction.of(name, "paper", Path()).design
    assert recipe(name)["train"] and design.paper and design.shows
    (block,) = design.blocks
    (printed,) = block.printed.values()
    assert any(printed) or name == "fashion-mnist-cpu"  # which is ours
    assert design.deviations or name == "fashion-mnist-cpu"


@pytest.mark.parametrize(
    ("name", "table", "block", "row"),
    [
        ("simvae-fashion-mnist", "simvae-iclr-table-1", "FashionMNIST", "SimVAE"),
        ("gedi-cifar10", "gedi-table-4", "CIFAR10", "GEDI"),
        ("aasae-cifar10", "aasae-table-1-left", "CIFAR10", "AASAE"),
    ],
)
def test_the_recipe_of_a_paper_is_the_run_of_its_table(name: str, table: str, block: str, row: str) -> None:
    assert given(name) == given(table, block, row)
    mine, whole = (Reproduction.of(study, "paper", Path()).design for study in (name, table))
    (printed,) = (each.printed[row] for each in whole.blocks if each.name == block)
    assert [str(value) for value in mine.blocks[0].printed[row]] == [str(value) for value in printed]


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("-cifar100")])
def test_recipes_of_one_method_on_both_cifars_differ_in_the_dataset_alone(name: str) -> None:
    assert given(name) == {**given(name.replace("cifar100", "cifar10")), "dataset": given(name)["dataset"]}
    assert given(name)["dataset"] == {"use": "cifar100"}
