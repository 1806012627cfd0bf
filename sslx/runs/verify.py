"""Whether a run is whole: each of its files, the code and the images that it rests on. Nothing is written."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sslx.core.catalogue import catalogue
from sslx.core.console import explain
from sslx.core.errors import CheckpointError, SslxError
from sslx.core.files import links
from sslx.core.interfaces import Dataset
from sslx.core.options import make
from sslx.core.training import checkpoint
from sslx.core.training.run import Run
from sslx.outputs.export import check_weights
from sslx.runs import provenance
from sslx.runs.data import changes, fingerprint
from sslx.runs.grid import Grid, is_grid
from sslx.runs.session import open_run


def verify(path: Path, trust_code: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Each part of a run or a grid with its problems, of which a whole part has none."""
    if is_grid(path):
        yield from _checked(f"{path}/grid.json", lambda: [Grid.open(path) and ""])
        try:
            grid = Grid.open(path)
        except SslxError:
            return
        if (path / "search.journal").exists():
            yield from _checked(f"{path}/search.journal", lambda: [grid.trials() and ""])
        for name in grid.configs:
            if (path / name / "config.toml").is_file():
                yield from verify(path / name, trust_code)
            else:
                yield str(path / name), ["not begun"]
        return
    run = open_run(path, trust_code=trust_code)
    folder = run.folder
    yield f"{path}", [f"{link} is a link or not a file" for link in links(path)]
    yield from _checked(f"{path}/config.toml", lambda: [folder.config() and ""])
    for name in ("run.json", "training.json", "results.json", "evaluation.json"):
        if name == "run.json" or (path / name).exists():
            yield from _checked(f"{path}/{name}", partial(_read, run, name))
    for step in checkpoint.steps(folder.checkpoints):
        where = folder.checkpoints / f"step-{step:09d}"
        yield from _checked(str(where), partial(_checkpoint, run, where))
    if folder.finished and not checkpoint.steps(folder.checkpoints):
        yield str(folder.checkpoints), ["there is no checkpoint"]
    cut = ", but for a last line that was cut off when the run was ended" if folder.cut_off else ""
    yield from _checked(f"{path}/metrics.jsonl{cut}", lambda: _metrics(run))
    if folder.export.exists():
        yield from _checked(str(folder.export), lambda: check_weights(folder.export))
    yield from _checked(f"{path}: code", lambda: provenance.differences(folder.facts()))
    yield from _checked(f"{path}: data", lambda: _data(run))


def _checked(what: str, check: Callable[[], list[Any]]) -> Iterator[tuple[str, list[str]]]:
    try:
        problems = [str(line) for line in check() if line]
    except SslxError as error:
        problems = [line.removeprefix(f"{what}: ") for line in str(error).splitlines()]
    except Exception as error:
        problems = [explain(error)]
    yield what, problems


def _read(run: Run, name: str) -> list[str]:
    return ["is missing"] if run.folder.read(name) is None else []


def _checkpoint(run: Run, path: Path) -> list[str]:
    said = provenance.foreign(checkpoint.verify(path), run.folder.facts())
    return [said] if said else []


def _metrics(run: Run) -> list[str]:
    """What is wrong with the log, up to the last whole checkpoint."""
    path, _ = checkpoint.newest(run.folder.checkpoints)
    known = None if path is None else checkpoint.manifest(path).get("metrics")
    if not run.folder.finished:
        run.folder.metrics()  # raises if a line cannot be read
    if known is None:
        return []
    log = run.path / "metrics.jsonl"
    content = log.read_bytes() if log.exists() else b""
    if hashlib.sha256(content[: known["size"]]).hexdigest() != known["sha256"]:
        return ["is not what was written"]
    if run.folder.finished and len(content) != known["size"]:
        return ["has lines after the end of the training"]
    return []


def _data(run: Run) -> list[str]:
    before = run.folder.facts().get("fingerprint")
    if before is None:
        raise CheckpointError("no fingerprint is recorded")
    with catalogue().on_record(run.trust_code):
        dataset = make(Dataset, run.settings["dataset"], "dataset")
    return changes(before, fingerprint(dataset.halves(run.launch.data_dir, offline=True)))
