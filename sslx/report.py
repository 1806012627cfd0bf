"""What is printed at the end of a run: one table of methods and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sslx.session import Run, label


def rows(runs: Sequence[Run]) -> list[tuple[str, dict[str, float]]]:
    """A name and the scores by column for each run, then for each different untrained encoder."""
    names = [run.name for run in runs]
    found = [
        (run.name if names.count(run.name) == 1 else f"{run.name} ({run.path.name})", _scores(run.results, "trained"))
        for run in runs
    ]
    floors: list[tuple[str, dict[str, float]]] = []
    for run in runs:
        floor = _scores(run.results, "untrained")
        if run.name != "random" and floor not in [scores for _, scores in floors]:
            floors.append((f"random ({run.name}'s encoder, untrained)", floor))
    if len(floors) == 1:
        floors = [("random (the encoder, untrained)", floors[0][1])]
    return found + floors


def _scores(results: Mapping[str, Any], which: str) -> dict[str, float]:
    evaluators = results.get(which, {}).values()
    return {name: score for result in evaluators for name, score in result.get("scores", {}).items()}


def show(runs: Sequence[Run]) -> None:
    """Print the table, what the scores mean and where the runs are."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    found = rows(runs)
    columns = list(dict.fromkeys(name for _, scores in found for name in scores))
    datasets = dict.fromkeys(label(run.config.dataset) for run in runs)
    table = Table(title=f"Representations of {', '.join(datasets)}", title_justify="left", title_style="bold")
    table.add_column("method")
    for column in columns:
        table.add_column(column, justify="right")
    for name, scores in found:
        table.add_row(name, *(f"{scores[column]:.4f}" if column in scores else "-" for column in columns))
    console.print(table)
    for line in _protocols(runs):
        console.print(line)
    for run in runs:
        time = run.folder.read("training.json") or {}
        spent = f"trained {time.get('seconds', 0):.1f} s ({time.get('cpu_seconds', 0):.1f} CPU-seconds)"
        console.print(f"{run.path}: {spent}", soft_wrap=True)


def _protocols(runs: Sequence[Run]) -> list[str]:
    """One line for each evaluator and way in which it was used; and why any was skipped."""
    lines: dict[str, None] = {}
    for run in runs:
        for name, result in run.results.get("trained", {}).items():
            text = f"skipped, {result['skipped']}" if "skipped" in result else result["summary"]
            lines[f"{name}: {text}"] = None
    return list(lines)
