"""Run folders that somebody made to do harm: to execute code, to write elsewhere, to hang.

Every file is sealed again after it was changed, as whoever makes such a folder would do.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch

import sslx
from sslx.core import files, signals
from sslx.core.toml import dumps, loads
from sslx.core.training import checkpoint

from .runs import Case

LIMIT = 20  # seconds that a command may take
#: What is said to sslx beside a run that is called first.
COMMANDS = {
    "compare": "compare first",
    "resume": "resume first --device cpu",
    "eval": "eval first -e knn --device cpu",
    "embed": "embed first --to made/embedded.npz",
    "export": "export first --to made/exported",
    "replay": "replay first",
    "verify": "verify first",
    "report": "report first",
    "plot": "plot curves first --to made/curves.png",
    "config": "run --config first/config.toml --epochs 1 --device cpu --out made/run",
    "sweep": "run --sweep first/config.toml --epochs 1 --device cpu --out made/grid",
}


class Folder(NamedTuple):
    name: str
    make: Callable[[Path], None]  # changes the folder of a run or a grid
    base: str  # "finished", "stopped" or "grid"


def make_bases(folder: Path) -> None:
    """A finished run, a stopped one and a grid of two, in `folder`."""
    small: dict[str, Any] = {"subset": 64, "seed": 1, "prior": {"use": "shared-mean"}}
    small |= {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}, "evaluators": {"knn": {"neighbours": 3}}}
    train = {"epochs": 2, "batch_size": 32, "log_every": 1, "checkpoint_steps": 2}
    sslx.run("vae", out=folder / "finished", train=train, device="cpu", **small)
    shutil.copytree(folder / "finished", folder / "stopped")
    for name in ("results.json", "training.json", "checkpoints/step-000000004"):
        path = folder / "stopped" / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    grid = folder / "grid"
    shutil.copytree(folder / "finished", grid / "vae-seed=1")
    config = loads((folder / "finished" / "config.toml").read_text())
    runs = {"vae-seed=1": config, "vae-seed=2": {**config, "seed": 2}}
    launch = {"device": "cpu", "devices": 1, "trackers": []}
    (grid / "grid.json").write_text(files.sealed({"runs": runs, "launch": launch, "restarts": False}))


# --- how a folder is changed ------------------------------------------------------------------------------------------


def reseal(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    values.pop("sha256", None)
    change(values)
    path.write_text(files.sealed(values))


def configured(folder: Path, dotted: str, value: Any) -> None:
    """Set an option in config.toml, and in what run.json and the checkpoints say of it."""
    config = loads((folder / "config.toml").read_text())
    *tables, last = dotted.split(".")
    table = config
    for name in tables:
        inner = table.get(name)
        table[name] = table = dict(inner) if isinstance(inner, dict) else {}
    table[last] = value
    (folder / "config.toml").write_text(dumps(config))
    reseal(folder / "run.json", lambda facts: facts.update(config=config))
    for path in folder.glob("checkpoints/step-*/manifest.json"):
        reseal(path, lambda facts: facts.update(config=files.digest(config)))


def option(dotted: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: configured(folder, dotted, value)


def fact(file: str, key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        def put(facts: dict[str, Any]) -> None:
            *tables, last = key.split("/")
            for name in tables:
                facts = facts[name]
            facts[last] = value

        reseal(folder / file, put)

    return change


def linked(name: str, to: str, hard: bool = False) -> Callable[[Path], None]:
    """`name` in the run is a link to something in the folder `outside`."""

    def change(folder: Path) -> None:
        path, target = folder / name, folder.parent / "outside" / to
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        os.link(target, path) if hard else path.symlink_to(target)

    return change


def pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = next(folder.glob(name), folder / name)
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return change


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = next(folder.glob(name), folder / name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return change


class Evil:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def state(change: Callable[[dict[str, Any], Path], Any]) -> Callable[[Path], None]:
    """Another shared.pt in each checkpoint, with a manifest that fits."""

    def make(folder: Path) -> None:
        for step in folder.glob("checkpoints/step-*"):
            content = torch.load(step / "shared.pt", weights_only=True)
            torch.save(change(content, folder), step / "shared.pt")
            data = (step / "shared.pt").read_bytes()
            facts = {"size": len(data), "sha256": checkpoint._hash(step / "shared.pt")}
            reseal(step / "manifest.json", lambda manifest, facts=facts: manifest["files"].update({"shared.pt": facts}))

    return make


# --- the corpus -------------------------------------------------------------------------------------------------------

REFERENCES = (
    "{run}/evil.py:X",
    "{abs}/evil.py:X",
    "{run}/evil.py:X:Y",
    "{run}.evil:X",
    "/proc/self/cwd/{run}/evil.py:X",
)
SLOTS = (
    "method.use", "method.prior.use", "method.prior", "method.encoder", "method.decoder.likelihood.use",
    "method.encoder.posterior", "views", "views.local", "loader.use", "dataset", "train.optimizer.use",
    "evaluators.knn.use", "evaluators", "eval_dataset", "train.evaluate.evaluators",
)  # fmt: skip
MODULES = (
    "evil:X",
    "subprocess:Popen",
    "os:system",
    "antigravity:X",
    "{run}/evil.py",
    "./evil.py:X",
    "{run}/./evil.py:X",
)
FILES = ("config.toml", "run.json", "results.json", "training.json", "metrics.jsonl", "lock", "lock.json")
DRAFTS = (".metrics.jsonl.draft", ".results.json.draft", ".training.json.draft", ".lock.json.draft", ".run.json.draft")
PICTURES = (
    "reconstructions.png", "samples.png", "views.png", "export/model.safetensors", "export/config.json", "report.html",
    "report/map.safetensors",
)  # fmt: skip
FOLDERS = ("export", "checkpoints", "checkpoints/.draft-step-000000004", "crash", "tensorboard", "report")


def corpus() -> Iterator[Folder]:
    for slot in SLOTS:
        for reference in REFERENCES:
            value: Any = [reference] if slot.endswith("evaluators") else reference
            yield Folder(f"{slot} = {reference}", _named(slot, value), "finished")
    for module in MODULES:
        yield Folder(f"prior = {module}", _named("method.prior", module), "stopped")
        yield Folder(f"a list of evaluators with {module}", _named("evaluators", ["knn", module]), "finished")
    for reference in REFERENCES:
        yield Folder(f"grid: {reference}", _grid(reference), "grid")
        yield Folder(f"tracker {reference}", _recorded("run.json", "launch/trackers", [reference]), "stopped")
        yield Folder(f"component {reference}", _recorded("run.json", "components/0/name", reference), "stopped")
    for name in ("../../outside/run", "/tmp/outside", "..", ".", "", "a/b", "a\nb", "-"):
        yield Folder(f"grid: run {name!r}", _renamed(name), "grid")
    for name in (*FILES, *DRAFTS, *PICTURES):
        yield Folder(f"link {name}", linked(name, "file"), "stopped")
        yield Folder(f"link {name} of a finished run", linked(name, "file"), "finished")
    for name in FOLDERS:
        yield Folder(f"link {name}", linked(name, "folder"), "stopped")
    for name in ("lock", "metrics.jsonl", "results.json", "samples.png", ".training.json.draft", "export/config.json"):
        yield Folder(f"hard link {name}", linked(name, "file", hard=True), "stopped")
    yield Folder("a link for a run of a grid", linked("vae-seed=2", "folder"), "grid")
    yield Folder("a link in a run of a grid", linked("vae-seed=1/results.json", "file"), "grid")
    yield Folder("a dangling link", linked("metrics.jsonl", "nothing"), "stopped")
    for name in (*FILES[:5], "checkpoints/*/manifest.json", "checkpoints/*/shared.pt", "evaluation.json"):
        yield Folder(f"pipe {name}", pipe(name), "stopped")
        yield Folder(f"pipe {name} of a finished run", pipe(name), "finished")
    yield Folder("pipe grid.json", pipe("grid.json"), "grid")
    yield Folder("a pickle as checkpoint", state(lambda content, folder: Evil(folder.parent / "canary")), "finished")
    yield Folder("a pickle in a checkpoint", state(_evil_state), "stopped")
    yield Folder("a list as checkpoint", state(lambda content, folder: [1, 2]), "finished")
    yield Folder("a checkpoint of nothing", state(lambda content, folder: {}), "stopped")
    yield Folder("weights of other shapes", state(_reshaped), "finished")
    yield Folder("weights of other names", state(lambda content, folder: {**content, "method": {"x": 1}}), "stopped")
    yield Folder("a step that is text", state(lambda content, folder: {**content, "step": "../../x"}), "stopped")
    yield Folder("an optimizer of text", state(lambda content, folder: {**content, "optimizer": "x"}), "stopped")
    for value in ([], {}, "x", {"../../../outside/file": {"size": 1, "sha256": "0"}}, None):
        yield Folder(f"manifest: files = {value!r}", _manifest("files", value), "stopped")
    for key, value in (("step", -1), ("step", 10**30), ("world", 10**9), ("world", 0), ("format", 99), ("metrics", 1)):
        yield Folder(f"manifest: {key} = {value}", _manifest(key, value), "stopped")
    yield Folder("step-²", lambda folder: (folder / "checkpoints" / "step-²").mkdir(), "stopped")
    yield Folder("a pickle as export", written("export/model.safetensors", pickle.dumps([1])), "finished")
    for name in (*FILES[:5], "grid.json"):
        for content in (b"", b"\0", b"[" * 100_000, b"{}", b"[]", b'{"a": ' * 5000, b"\xff\xfe", b"1" * 5000, b"null"):
            base = "grid" if name == "grid.json" else "finished"
            yield Folder(f"{name} = {content[:8]!r}", written(name, content), base)
    for key, value in (
        ("data/image_shape", [10**9, 10**9, 10**9]), ("data/image_shape", [1]), ("data/samples", -5), ("data", []),
        ("data/image_shape", [0, 0, 0]), ("launch/data_dir", "../outside/folder"), ("launch/device", "cuda:99\x1b[2J"),
        ("launch/devices", 10**9), ("versions", {"torch": "\x1b]0;x\x07"}), ("fingerprint", {"training": {}}),
        ("changes", [{"step": 0}]), ("components", [{"kind": "prior"}]), ("started", 5), ("config", {}),
    ):  # fmt: skip
        yield Folder(f"run.json: {key} = {value!r}", fact("run.json", key, value), "stopped")
    for dotted, value in (
        ("loader", {"use": "ffcv", "cache": "{outside}/folder/cache"}), ("weights", "{outside}/file"),
        ("dataset", {"use": "folder", "path": "{outside}"}), ("dataset", {"use": "beton", "path": "{outside}/file"}),
        ("weights", "{run}/evil.py"), ("train.batch_size", 0), ("seed", -1), ("subset", 10**12), ("method.use", 5),
        ("method", []), ("train", "fast"), ("dataset", {}), ("evaluators", {"knn": 5}), ("views.size", 10**9),
        ("method.encoder.hidden", [10**9]), ("dataset.use", "folder:/proc"), ("method.constraint", "{run}/rules.pl"),
        ("method", {"use": "gedi", "constraint": "{run}/rules.pl"}), ("\x1b[2J", 1), ("method.\nuse", 1),
    ):  # fmt: skip
        yield Folder(f"{dotted} = {value!r}", _named(dotted, value), "stopped")
    for score in ("\x1b[31m", "a\nb", "", "x" * 300):
        yield Folder(
            f"a score called {score[:9]!r}", _recorded("results.json", "trained/knn/scores", {score: 1.0}), "finished"
        )


def _filled(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        outside = folder.parent / "outside"
        return value.replace("{run}", folder.name).replace("{abs}", str(folder)).replace("{outside}", str(outside))
    if isinstance(value, list):
        return [_filled(item, folder) for item in value]
    return {k: _filled(v, folder) for k, v in value.items()} if isinstance(value, Mapping) else value


def _named(dotted: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: configured(folder, dotted, _filled(value, folder))


def _recorded(file: str, key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        def put(facts: Any) -> None:
            *tables, last = key.split("/")
            for name in tables:
                facts = facts[int(name)] if isinstance(facts, list) else facts[name]
            facts[last] = _filled(value, folder)

        reseal(folder / file, put)

    return change


def _grid(reference: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        def put(facts: dict[str, Any]) -> None:
            facts["runs"]["vae-seed=2"]["method"] = {"use": "vae", "prior": _filled(reference, folder)}

        reseal(folder / "grid.json", put)

    return change


def _renamed(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        reseal(folder / "grid.json", lambda facts: facts["runs"].update({name: facts["runs"].pop("vae-seed=2")}))

    return change


def _manifest(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob("checkpoints/step-*/manifest.json"):
            reseal(path, lambda facts: facts.update({key: value}))

    return change


def _evil_state(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**content, "seconds": Evil(folder.parent / "canary")}


def _reshaped(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**content, "method": {name: torch.zeros(3, 3) for name in content["method"]}}


def cases(folder: Path, quick: bool = False) -> Iterator[Case]:
    """What every command made of every folder of the corpus; quick: one command each, in turn."""
    (folder / "bases").mkdir()
    make_bases(folder / "bases")
    for number, each in enumerate(corpus()):
        commands = (list(COMMANDS)[number % len(COMMANDS)],) if quick else tuple(COMMANDS)
        yield Case(each.name, "; ".join(tried(each, folder / "bases", folder / "work", commands)))


# --- trying -----------------------------------------------------------------------------------------------------------

EVIL = """
from pathlib import Path
Path({canary!r}).mkdir(exist_ok=True)
class X:
    Y = None
"""


def tried(case: Folder, bases: Path, work: Path, commands: tuple[str, ...] = tuple(COMMANDS)) -> list[str]:
    """What was wrong when these commands were used on the case; nothing if all is well."""
    shutil.rmtree(work, ignore_errors=True)
    outside = work / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("mine")
    run, canary = work / "first", work / "canary"
    shutil.copytree(bases / case.base, run)
    for folder in (run, work):
        (folder / "evil.py").write_text(EVIL.format(canary=str(canary)))
    (run / "rules.pl").write_text(":- use_module('evil.py').\nnn(digit, [X], Y, [0, 1]) :: digit(X, Y).\n")
    case.make(run)
    before = _snapshot(outside)
    problems = []
    for command in commands:
        code, said = _command(command, work)
        if code not in (0, 1, 2):
            problems.append(f"{command}: exit code {code}")
        if "Traceback" in said or "\x1b" in said or len(said.splitlines()) > 60:
            problems.append(f"{command}: {said[-600:]}")
        if canary.exists():
            problems.append(f"{command}: code was executed")
            canary.rmdir()
        if (now := _snapshot(outside)) != before:
            problems.append(f"{command}: wrote outside")
            before = now
    return [f"{case.name}: {problem}" for problem in problems]


def _snapshot(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def _command(command: str, work: Path) -> tuple[Any, str]:
    """Exit code and output of a command in this process, as `python -m sslx` would find modules."""
    from sslx.cli import main

    shutil.rmtree(work / "made", ignore_errors=True)
    (work / "made").mkdir()
    output = StringIO()
    with _here(work), _in_time(), redirect_stdout(output), redirect_stderr(output):
        try:
            main(COMMANDS[command].split())
        except SystemExit as end:
            return end.code, output.getvalue()
        except TimeoutError:
            return "hung", output.getvalue()
    return None, output.getvalue()


@contextmanager
def _here(work: Path) -> Iterator[None]:
    before, install, modules = Path.cwd(), signals.install, set(sys.modules)
    os.chdir(work)
    sys.path.insert(0, "")
    signals.install = lambda: None
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove("")
        signals.install = install
        for name in [name for name in sys.modules.keys() - modules if name.startswith(("evil", "first"))]:
            del sys.modules[name]


@contextmanager
def _in_time() -> Iterator[None]:
    def late(number: int, frame: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
