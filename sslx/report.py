"""What is printed at the end of a run: one table of methods and scores, and by which protocol they were obtained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sslx.session import Run, label

Row = tuple[str, Mapping[str, Any]]  # a name and the results of each evaluator


def rows(runs: Sequence[Run]) -> list[Row]:
    """Each run, then each different untrained encoder."""
    names = [run.name for run in runs]
    called = [run.name if names.count(run.name) == 1 else f"{run.name} ({run.path.name})" for run in runs]
    found: list[Row] = [(name, run.results.get("trained", {})) for name, run in zip(called, runs, strict=True)]
    floors: list[Row] = []
    for name, run in zip(called, runs, strict=True):
        floor = run.results.get("untrained", {})
        if run.name != "random" and _scores(floor) not in [_scores(other) for _, other in floors]:
            floors.append((f"random ({name}'s encoder, untrained)", floor))
    if len(floors) == 1:
        floors = [("random (the encoder, untrained)", floors[0][1])]
    return found + floors


def _scores(results: Mapping[str, Any]) -> dict[str, float]:
    return {name: score for result in results.values() for name, score in result.get("scores", {}).items()}


def show(runs: Sequence[Run]) -> None:
    """Print the table, what the scores mean and where the runs are."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    found = rows(runs)
    columns = list(dict.fromkeys(name for _, results in found for name in _scores(results)))
    datasets = dict.fromkeys(label(run.config.dataset) for run in runs)
    table = Table(title=f"Representations of {', '.join(datasets)}", title_justify="left", title_style="bold")
    table.add_column("method")
    for column in columns:
        table.add_column(column, justify="right")
    for name, results in found:
        scores = _scores(results)
        table.add_row(name, *(f"{scores[column]:.4f}" if column in scores else "-" for column in columns))
    console.print(table)
    for line in _protocols(found):
        console.print(line, markup=False)
    for run in runs:
        time = run.folder.read("training.json") or {}
        spent = f"trained {time.get('seconds', 0):.1f} s ({time.get('cpu_seconds', 0):.1f} CPU-seconds)"
        console.print(f"{run.path}: {spent}", soft_wrap=True)


def _protocols(found: Sequence[Row]) -> Iterator[str]:
    """A line for each evaluator and way in which it was used; of several ways, each says for which rows."""
    ways: dict[str, dict[str, list[str]]] = {}
    for row, results in found:
        for name, result in results.items():
            reason = next((f"{word}, {result[word]}" for word in ("skipped", "failed") if word in result), "")
            ways.setdefault(name, {}).setdefault(reason or result["summary"], []).append(row.partition(" (the")[0])
    for name, texts in ways.items():
        for text, users in texts.items():
            yield f"{name}: {text}" if len(texts) == 1 else f"{name} of {', '.join(users)}: {text}"


def failures(runs: Sequence[Run]) -> list[str]:
    """A line for each evaluator that failed."""
    return [
        f"{name} failed on {run.path}: {result['failed']}; `sslx eval {run.path} --evaluators {name}` tries again"
        for run in runs
        for name, result in run.results.get("trained", {}).items()
        if "failed" in result
    ]
