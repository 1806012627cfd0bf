"""Two studies of the papers from beginning to end, at the budget that shows that every cell can be filled."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", ["simvae-figure-10", "gedi-figure-4"])
def test_a_smoke_run_fills_every_cell_and_draws_every_figure(name: str, command: Command, tmp_path: Path) -> None:
    code, _, errors = command("reproduce", name, "--budget", "smoke", "--device", "cpu")
    assert code == 0, errors
    folder = tmp_path / "runs" / "studies" / f"{name}-smoke"
    with open(folder / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["ours"] for row in rows)
    pages = [(folder / page).read_text() for page in ("index.html", "index.md")]
    assert all("What differs from the paper" in page for page in pages) and "<svg" in pages[0]
    assert not any("What was found" in page for page in pages)  # nothing is, by one epoch
    pictures = [path for path in folder.iterdir() if path.suffix == ".png"]
    assert pictures and all(
        path.with_suffix(ending).exists() for path in pictures for ending in (".svg", ".pdf", ".csv")
    )
