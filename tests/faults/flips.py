"""One bit flipped in a file of a run: it is noticed and named, or nothing that a command computes changes."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy

from sslx.core.toml import loads

from .runs import Case, Place, difference, outcome, unclean
from .server import Done

#: Files that no command reads, or that only a person reads.
_UNCHECKED = ("lock", "bad-images.txt", "failed.json", "*.png")
_VAE: dict[str, Any] = {"train": {"checkpoint_steps": 4}, "evaluators": {"knn": {"neighbours": 3}, "cluster": {}}}
_EVAL = ["eval", "run", "-e", "knn"]
_SWEEP = """
subset = 100
evaluators = ["knn"]
[train]
epochs = 1
batch_size = 16
[[runs]]
method = {use = "vae", encoder.hidden = [16], decoder.hidden = [16]}
[[runs]]
method = {use = "simclr", encoder.hidden = [16], projector = [8, 8]}
"""


@attrs.frozen
class Subject:
    """A run or a grid, made once, and what its commands come to while it is whole."""

    name: str
    path: Path
    commands: dict[str, list[str]]
    expected: dict[str, Any] = attrs.field(factory=dict)


_READING = ("verify", "compare", "embed", "export", "resume a finished run")
_COMMANDS = {
    "verify": ["verify", "run"],
    "compare": ["compare", "run"],
    "embed": ["embed", "run", "--to", "features.npz"],
    "export": ["export", "run", "--to", "exported"],
    "resume a finished run": ["resume", "run"],
    "eval": _EVAL,
    "resume": ["resume", "run"],
    "resume --epochs": ["resume", "run", "--epochs", "3"],
}
_FINISHED = ("verify", "compare", "embed", "export", "resume a finished run", "eval", "resume --epochs")
_STOPPED = ("verify", "embed", "export", "resume")
_GRID = ("verify", "compare", "resume a finished run", "eval")


def subjects(place: Place) -> Iterator[Subject]:
    """A finished run, one that was stopped in its training and one in its evaluation, and a grid."""
    for name, faults, commands in (
        ("finished", {}, _FINISHED),
        ("stopped", {"stop": 9}, _STOPPED),
        ("half evaluated", {}, _STOPPED),
    ):
        folder = place.fresh(f"{name} whole")
        place.must(folder, place.run("vae", **_VAE), **faults)
        if name == "half evaluated":
            results = folder / "run" / "results.json"
            values = json.loads(results.read_text())
            values.pop("sha256")
            results.unlink()
            values["trained"].pop("cluster")
            values["untrained"] = {}
            from sslx.core.training.run_folder import RunFolder

            RunFolder(folder / "run").write("evaluation.json", {"step": 12, "other_data": "", **values})
        yield _known(place, name, folder / "run", commands)
    folder = place.fresh("grid whole")
    (folder / "sweep.toml").write_text(_SWEEP)
    place.must(folder, ["run", "--sweep", "sweep.toml", "--out", "run", "--device", "cpu"])
    yield _known(place, "grid", folder / "run", _GRID)


def _known(place: Place, name: str, path: Path, commands: tuple[str, ...]) -> Subject:
    subject = Subject(name, path, {each: _COMMANDS[each] for each in commands})
    for each, arguments in subject.commands.items():
        folder = place.fresh("whole", path)
        (done,) = place.must(folder, arguments)
        subject.expected[each] = _effect(each, folder, done)
    return subject


def _effect(command: str, folder: Path, done: Done) -> Any:
    """What a command has come to."""
    run = folder / "run"
    if command in ("verify", "compare", "resume a finished run"):
        return {"output": done.output}
    if command == "embed":
        with numpy.load(folder / "features.npz") as file:
            return {name: file[name].tobytes() for name in file.files}
    if command == "export":
        return {each.name: each.read_bytes() for each in (folder / "exported").iterdir()}
    if command == "eval":
        return {str(each.relative_to(run)): each.read_text() for each in run.rglob("results.json")}
    found = outcome(run)
    return {name: found[name] for name in ("weights", "metrics", "results.json", "training.json")}


def cases(place: Place, chosen: random.Random, quick: bool = False) -> Iterator[Case]:
    """A flip in each file of each subject, again and again.

    Args:
        quick: each flip is met by `verify` and one other command, instead of all.
    """
    known, turn = list(subjects(place)), itertools.count()
    for subject in known[1:3]:  # an evaluator without options becomes another one
        at = (subject.path / "config.toml").read_bytes().index(b"[evaluators.cluster]") + len("[evaluators.")
        yield from _flipped(place, subject, [(Path("config.toml"), at, 0, ["verify", "resume"])])
    while True:
        for subject in known:
            flips = []
            for path in sorted(subject.path.rglob("*")):
                if path.is_file() and path.stat().st_size and path.name != "lock":
                    position = chosen.randrange(path.stat().st_size), chosen.randrange(8)
                    names = list(subject.commands)
                    if quick:
                        others = names[1:] if next(turn) % 4 == 0 else [each for each in names[1:] if each in _READING]
                        names = ["verify", names[-1] if path.name == "metrics.jsonl" else chosen.choice(others)]
                    flips.append((path.relative_to(subject.path), *position, names))
            yield from _flipped(place, subject, flips)


def flip(path: Path, byte: int, bit: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


def _flipped(place: Place, subject: Subject, flips: list[tuple[Path, int, int, list[str]]]) -> Iterator[Case]:
    """Each flip in copies of its own, all commands in one process."""
    folders, commands = list[Path](), list[list[str]]()
    for i, (file, byte, bit, names) in enumerate(flips):
        for each in names:
            if each not in _READING or not folders or folders[-1].name != f"flipped {i}":
                folders.append(place.fresh(f"flipped {i}" + ("" if each in _READING else f" {each}"), subject.path))
                flip(folders[-1] / "run" / file, byte, bit)
            else:
                folders.append(folders[-1])
            commands.append(subject.commands[each])
    results = zip(folders, place.server(place.folder, commands, folders=folders), strict=False)
    for file, byte, bit, names in flips:
        broken = []
        for each in names:
            folder, done = next(results, (place.folder, None))
            if done is not None and (problem := _judged(each, subject, file, folder, done)):
                broken.append(f"`{' '.join(subject.commands[each])}`: {problem}")
        yield Case(f"{subject.name} run: bit {bit} of byte {byte} of {file}", "; ".join(broken))


def _judged(command: str, subject: Subject, file: Path, folder: Path, done: Done) -> str:
    names = (file.name, file.parent.name) if file.parent.name.startswith(("step-", "export")) else (file.name,)
    same = _equal(subject.path / file, folder / "run" / file)
    if done.code != 0:
        return unclean(done, *names, lines=9)  # a line for each option or checkpoint
    if "Traceback" in done.errors + done.output:
        return f"a traceback: {done.errors.splitlines()[-1]}"
    if command == "verify" and not same and not any(file.match(each) for each in _UNCHECKED):
        return "is not noticed"
    try:
        parts = difference(subject.expected[command], _effect(command, folder, done))
    except Exception as error:
        parts = repr(error)
    named = any(name in done.errors for name in names)
    if file.name == "metrics.jsonl" and named:  # the line is lost, and this is said
        parts = ", ".join(part for part in parts.split(", ") if part not in ("metrics", "training.json"))
    return f"differs in {parts}{' although it is named' if named else ', and nothing is said'}" if parts else ""


def _equal(before: Path, now: Path) -> bool:
    """Whether two JSON or TOML files have the same values, as after a flip from 1e-08 to 1E-08."""
    read: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": loads}
    if now.suffix not in read:
        return False
    try:
        old, new = (read[now.suffix](path.read_text(encoding="utf-8")) for path in (before, now))
    except (OSError, ValueError):
        return False
    return bool(old == new)
