"""Small runs and what they come to, for all kinds of faults."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy
from conftest import ENCODER, SMALL, TINY, digest
from PIL import Image

from sslx.core.dotted import merge
from sslx.core.toml import dumps

from .server import Done, Server

#: Scores after each epoch, which keep the best checkpoint and may end a training of three epochs.
SCORED: dict[str, Any] = {"evaluate": {"every": 1}, "stop": {"by": "knn", "patience": 2}}


@attrs.frozen
class Case:
    """A fault, as small as it can be told, and the promise that it broke; empty if it broke none."""

    name: str
    broken: str = ""


@attrs.frozen
class Place:
    """Where cases are tried: a folder, and the server that carries out commands."""

    folder: Path
    server: Server

    def fresh(self, name: str, source: Path | None = None) -> Path:
        """A new empty folder, or one with a copy of a run in it, called `run`."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        if source is not None:
            shutil.copytree(source, path / "run", symlinks=True)
        return path

    def config(self, method: str, **options: Any) -> Path:
        """A file for `--config` with a small run of a method."""
        layers = [TINY, {"method": {"use": method, **SMALL.get(method, ENCODER)}}, options]
        if method == "colorization":
            layers.append({"dataset": f"folder:{self.colours()}", "subset": 32})
        text = dumps(merge(*layers))
        path = self.folder / f"{method}-{hashlib.sha256(text.encode()).hexdigest()[:6]}.toml"
        path.write_text(text)
        return path

    def colours(self) -> Path:
        """A folder of tiny colour images in two classes."""
        folder = self.folder / "colours"
        for i in range(0 if folder.exists() else 60):
            pixels = numpy.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
            (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i}.png")
        return folder

    def run(self, method: str, out: str = "run", **options: Any) -> list[str]:
        """The command line of a small run."""
        return ["run", "--config", str(self.config(method, **options)), "--out", out, "--device", "cpu", "--offline"]

    def must(self, folder: Path, *commands: list[str], **faults: Any) -> list[Done]:
        """Commands that succeed, or that a stop signal ends."""
        done = self.server(folder, commands, **faults)
        wanted = 75 if "stop" in faults else 0
        assert [each.code for each in done] == [wanted] * len(commands), done
        return done


_TIMES = ("seconds", "cpu_seconds")
#: Locks, earlier results, and the draft of the results, which may stay behind.
_APART = re.compile(r"lock|lock\.json|results-\d+\.json|evaluation\.json")


def outcome(run: Path) -> dict[str, Any]:
    """All that a finished run has come to, without times: equal for an interrupted run and one that never was."""
    log = run / "metrics.jsonl"
    found: dict[str, Any] = {"weights": digest(run), "metrics": log.read_text() if log.exists() else ""}
    for name in ("results.json", "training.json", "run.json"):
        if not (run / name).exists():
            found[name] = None  # of a run that a search has given up
            continue
        values = json.loads((run / name).read_text())
        values.pop("sha256")
        if name == "training.json":
            values = {key: value for key, value in values.items() if key not in _TIMES}
            if best := values.get("best"):
                found["best"] = digest(run, best["step"])
        if name == "run.json":
            values = {key: values.get(key) for key in ("config", "data", "fingerprint", "components", "changes")}
        found[name] = values
    found["config.toml"] = (run / "config.toml").read_text()
    for path in sorted((run / "export").glob("*")):
        found[f"export/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    found["files"] = sorted(p.name for p in run.iterdir() if not _APART.fullmatch(p.name))
    found["drafts"] = sorted(p.name for p in run.rglob(".*"))
    return found


def difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """In what two outcomes differ, in words; empty if they are equal."""
    return ", ".join(name for name in {**expected, **found} if expected.get(name) != found.get(name))


def ended(run: Path, expected: Mapping[str, Any]) -> str:
    """How a run differs from the outcome that it must have; empty if it does not."""
    try:
        found = outcome(run)
    except (OSError, AssertionError, KeyError, ValueError) as error:
        return f"no outcome: {error!r}"
    parts = difference(expected, found)
    if parts == "files":
        parts = f"files: {sorted(set(expected['files']) ^ set(found['files']))}"
    return f"differs in {parts}" if parts else ""


def unclean(done: Done, *names: str, lines: int = 1) -> str:
    """What is wrong with an error; empty if it is at most so many lines that name one of `names`, with a fit exit code.

    Progress and other lines come before the last lines, which begin with "sslx: ".
    """
    said = [line for line in done.errors.splitlines() if line.startswith("sslx: ")]
    if done.code is None:
        return "takes too long"
    if done.code < 0:
        return f"is ended by signal {-done.code}"
    if "Traceback (most recent" in done.errors + done.output:
        return f"a traceback: {done.errors.splitlines()[-1]}"
    if done.code not in (1, 2):
        return f"exit code {done.code}: {done.errors[-300:]}"
    if not said or len(said) > lines:
        return f"{len(said)} lines of errors: {done.errors[-300:]}"
    if where := re.search(r"\([^ ()]*\.py:\d+\)", " ".join(said)):
        return f"an error of the code {where[0]}: {said[-1]}"
    if names and not any(name in done.errors + done.output for name in names):
        return f"names none of {', '.join(names)}: {' '.join(said)}"
    return ""


def every_method() -> list[str]:
    """The names of sslx's own methods; without `nesy`, which needs images that belong together."""
    from sslx.plugins.registry import registry

    found = registry().providers("method").items()
    return sorted(name for name, all_ in found if name != "nesy" and all_[0].plugin.distribution == "sslx")
