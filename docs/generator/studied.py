"""What the page of a method shows of studies: the settings of a paper next to the defaults, and committed results."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from generator.text import code, listed
from sslx.core.dotted import flatten
from sslx.core.errors import ConfigError
from sslx.core.options import to_dict
from sslx.core.study import Block, Line
from sslx.core.training.config import configure
from sslx.plugins.registry import registry
from sslx.runs.studies import Reproduction
from sslx.studies import RECIPES

RESULTS = Path(__file__).parents[1] / "results"
#: Studies that have more blocks than these, or nothing to compare with, are linked without a table.
MOST_BLOCKS = 3
HEADS = ("data", "score", "study", "here", "seeds", "paper", "untrained", "pixels", "pca")


@cache
def study(name: str, budget: str) -> Reproduction | None:
    """A study at a budget; none if it has no such budget."""
    with suppress(ConfigError):
        return Reproduction.of(name, budget, Path())
    return None


def places(found: Reproduction, method: str) -> list[tuple[Block, Line]]:
    """The blocks and rows of a study that train this method."""
    design = found.design
    return [
        (block, row)
        for block, row in found.places()
        if design.options_of(block, row, found.budget).get("method") == method and not design.missing(block, row)
    ]


# --- settings ---------------------------------------------------------------------------------------------------------


def settings(method: str) -> Iterator[str]:
    """A table of the options that differ between the defaults and one study of the method, recipes first."""
    recipes = sorted((name for name, *_ in RECIPES), key=lambda name: not name.startswith(method))
    for name in [*recipes, *(each for each in registry().providers("study") if each not in (*recipes, "file"))]:
        found = study(name, "paper")
        if found is not None and (where := places(found, method)):
            yield from differences(found, *where[0], recipe=name in recipes)
            return


def differences(found: Reproduction, block: Block, row: Line, recipe: bool) -> Iterator[str]:
    theirs = found.config(block, row)
    method = found.design.options_of(block, row, found.budget)["method"]
    default = configure({"method": method, "dataset": to_dict(theirs.dataset)})
    there, here = flatten(to_dict(theirs)), flatten(to_dict(default))
    keys = [key for key in here | there if key in there and here.get(key) != there[key] and belongs(key, there, here)]
    if not keys:
        return
    command = f"sslx run --recipe {found.name}" if recipe else f"sslx reproduce {found.name} --budget paper"
    source = found.design.paper.partition(":")[0]
    yield (
        f"## Settings of a paper\n\n`{command}` trains with the settings of {source}, on {block.name}. "
        "They differ from the defaults for these images:\n\n| option | default | there |\n|---|---|---|"
    )
    for key in keys:
        name = key.removeprefix("method.")
        yield f"| `{name}` | {written(here.get(key))} | {written(there[key])} |"
    yield ""


def belongs(key: str, there: dict[str, Any], here: dict[str, Any]) -> bool:
    """Whether an option is one of the method or of training, and not one that another view policy implies."""
    section = key.partition(".")[0]
    if section == "views":
        return key in ("views", "views.count") or there["views"] == here["views"]
    return section in ("method", "train")


def written(value: Any) -> str:
    return "-" if value is None else code(str(value).replace("'", ""))


# --- results ----------------------------------------------------------------------------------------------------------


def results(method: str) -> Iterator[str]:
    """A table of what committed studies found of the method, with seeds and floors, and links to the others."""
    lines, others = list[list[str]](), list[str]()
    for folder in sorted(path.parent for path in RESULTS.glob("*/index.md")):
        found = study(folder.name, "cpu")
        where = places(found, method) if found is not None else []
        if not where:
            continue
        assert found is not None
        link = f"[{found.design.paper}](../results/{folder.name}/index.md)"
        with (folder / "table.csv").open(encoding="utf-8") as file:
            cells = [cell for cell in csv.DictReader(file) if cell["ours"]]
        rows = [line for block, row in where if (line := result(cells, found, block, row, link))]
        if len(rows) <= MOST_BLOCKS and any(any(line[5:]) for line in rows):
            lines += rows
        else:
            others.append(link)
    if lines:
        yield "## Results of studies\n"
        yield "Runs at the budget of two cores, with the error over seeds that the page of each study explains:\n"
        shown = [place for place in range(len(HEADS)) if any(line[place] for line in lines)]
        yield f"| {' | '.join(HEADS[place] for place in shown)} |"
        yield f"|{'|'.join('---' if place < 3 else '---:' for place in shown)}|"
        yield from (f"| {' | '.join(line[place] for place in shown)} |" for line in lines)
        yield ""
    if others:
        yield f"{'More are' if lines else 'Results are'} in {listed(others)}.\n"


def result(cells: list[dict[str, str]], found: Reproduction, block: Block, row: Line, link: str) -> list[str]:
    """The first score of the method in a block, if possible one that floors have as well, and these floors."""
    here = [cell for cell in cells if cell["block"] == block.name]
    floors = {cell["column"] for cell in here if cell["row"] in ("pixels", "pca")}
    measured = sorted(
        (c for c in here if c["row"] == row.name), key=lambda c: bool(floors) and c["column"] not in floors
    )
    if not measured:
        return []
    own = measured[0]
    columns = {column.name: column for column in found.design.columns}
    mine = {cell["row"]: cell for cell in here if cell["column"] == own["column"]}
    digits = columns[own["column"]].digits

    def number(name: str, value: str = "ours", error: str = "spread") -> str:
        cell = mine.get(name, {})
        if not cell.get(value):
            return ""
        spread = f" ± {float(cell[error]):.{digits}f}" if cell.get(error) and name not in ("pixels", "pca") else ""
        return f"{float(cell[value]):.{digits}f}{spread}"

    untrained = next((r.name for b, r in places(found, "random") if b.name == block.name), "")
    values = [number(row.name), own["n"], number(row.name, "paper", "paper spread")]
    values += [number(name) for name in (untrained, "pixels", "pca")]
    return [block.name, own["column"], link, *values]
