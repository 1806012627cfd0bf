"""A run from beginning to end: config, data, training, evaluation, records.

This is what the command line calls, and what `import sslx` offers.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import torch

import sslx.api  # noqa: F401  puts the registry in its place
from sslx.core import checkpoint
from sslx.core.config import RunConfig, configure
from sslx.core.diagnosis import diagnose
from sslx.core.engine import Engine, check, replay
from sslx.core.errors import CheckpointError, ConfigError, DataError, Interrupted, PluginError
from sslx.core.evaluation import evaluate
from sslx.core.interfaces import Context, Dataset, Encoder, Method, Split, Tracker
from sslx.core.options import Component, make, options_of, to_dict
from sslx.core.randomness import Use, borrowed, seed_of, seed_torch
from sslx.core.records import RunFolder, environment, versions
from sslx.core.runtime import Runtime
from sslx.export import write_weights
from sslx.pictures import pictures
from sslx.plugins.registry import provenance, registry


def _from_anywhere(names: Iterable[str]) -> tuple[str, ...]:
    """Each `./file.py:Class` with its whole path, so that `resume` finds it from any folder."""
    parts = [name.rpartition(":") for name in names]
    return tuple(f"{Path(p).expanduser().resolve()}:{c}" if p.endswith(".py") else f"{p}{s}{c}" for p, s, c in parts)


@attrs.frozen
class Launch:
    """How a run is carried out. Nothing here changes what it computes, so it is not part of the config."""

    device: str = "auto"
    devices: int = 1
    data_dir: Path = attrs.field(factory=lambda: default_data_dir())
    offline: bool = False
    progress: bool = True
    trackers: tuple[str, ...] = attrs.field(default=(), converter=_from_anywhere)


@attrs.frozen
class Run:
    """A run and its folder."""

    folder: RunFolder
    config: RunConfig

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def name(self) -> str:
        return label(self.config.method)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that it is trained on."""
        C, H, W = self.folder.read("run.json")["data"]["image_shape"]
        return C, H, W

    @property
    def results(self) -> dict[str, Any]:
        """`{"trained": {evaluator: {...}}, "untrained": {...}}`; empty while the run is not finished."""
        return self.folder.read("results.json") or {}

    @property
    def training(self) -> dict[str, Any]:
        """Times, and what the losses say: `score`, without labels, the smaller the better, and `diagnosis`."""
        return self.folder.read("training.json") or {}

    def method(self) -> Method:
        """The trained method, on the CPU, in evaluation mode. Raises CheckpointError if there is none yet."""
        path, _ = checkpoint.newest(self.folder.checkpoints)
        data = self.folder.read("run.json")["data"]
        method = build(self.config, **data)
        if path is None:
            raise CheckpointError(f"{self.path}: no checkpoint yet")
        shared, local = checkpoint.load(path)
        method.load_state_dict(shared["method"])
        method.load_local_state(local)
        return method.eval()


def default_data_dir() -> Path:
    """$SSLX_DATA, or a folder in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SSLX_DATA") or cache / "sslx")


def reference(component: Component) -> str:
    """The name by which a component was chosen."""
    return str(to_dict(component)["use"])


def label(component: Component) -> str:
    """The same for people and file names: `MyMethod` for `/somewhere/file.py:MyMethod`."""
    return re.split("[/:]", reference(component))[-1]


def run(
    plugin: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    evaluators: Sequence[str] | str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    data_dir: Path | str | None = None,
    offline: bool = False,
    trackers: Sequence[str] | str = (),
    **options: Any,
) -> Run:
    """Train a method and evaluate its representation.

    `sslx.run("simvae", dataset="fashion-mnist", subset=2000, train={"epochs": 3}, method={"prior": {"variance": 0.1}})`

    Args:
        plugin: name of the method.
        config: the content of a config.toml, over which the other arguments go.
        evaluators: names of the evaluators, a list or with commas; "all" are those that are installed.
        out: folder of the run; by default the next free `runs/DATASET-METHOD-N`.
        trackers: names of those that follow the run, a list or with commas.
        options: sections and options of a config: `method`, `dataset`, `views`, `loader`, `train`, `seed`, `subset`.

    Raises:
        ConfigError: something in the config is wrong, one line for each mistake.
    """
    method = {"method": {"use": plugin}} if plugin is not None else {}
    names = evaluator_names(evaluators) if evaluators is not None else None
    resolved = configure(config or {}, method, options, evaluators=names)
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    followed = trackers.split(",") if isinstance(trackers, str) else trackers
    launch = Launch(device, 1, folder.resolve(), offline, trackers=followed)
    return start(resolved, launch, Path(out) if out is not None else None)


def evaluator_names(names: Sequence[str] | str) -> list[str]:
    """The names, given as a list or with commas between them; for "all" those of all installed evaluators that work."""
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]
    if not isinstance(names, Iterable):
        raise ConfigError(f"evaluators: expected names of evaluators, got {names!r}")
    return [each for name in names for each in (_installed() if name == "all" else [name])]


def _installed() -> list[str]:
    found = []
    for name, providers in registry().providers("evaluator").items():
        for provider in providers:
            full = name if len(providers) == 1 else f"{provider.plugin.distribution}/{name}"
            try:
                registry().resolve("evaluator", full)
                found.append(full)
            except PluginError as error:  # asked for by nobody in particular
                print(f"left out: {error}", file=sys.stderr)
    return found


def start(config: RunConfig, launch: Launch, out: Path | None = None) -> Run:
    """Carry out a new run, on every process that was launched for it."""
    with borrowed(), _followed(launch):
        runtime = Runtime.start(launch.device, config.train.precision)
        data = load_data(config, launch, runtime)
        check(config.train, data[0], runtime.world)
        folder = runtime.share(_create(config, launch, out, data) if runtime.main else None)
        run = Run(RunFolder(folder), config)
        try:
            return _execute(run, data, runtime, launch)
        except (ConfigError, PluginError):  # found when the method was built, or met its first batch
            if runtime.main and not run.folder.checkpoints.exists() and not run.folder.metrics():
                shutil.rmtree(folder)
            raise


def resume(path: Path | str, launch: Launch | None = None) -> Run:
    """Go on with a run from its last whole checkpoint, bit for bit on a CPU. A finished run is left as it is.

    Args:
        launch: how to carry it out, if not as before.
    """
    run = open_run(path)
    if run.folder.finished:
        return run
    _say_differences(run)
    launch = launch or recorded_launch(run)
    with borrowed(), _followed(launch):
        runtime = Runtime.start(launch.device, run.config.train.precision)
        return _execute(run, load_data(run.config, launch, runtime), runtime, launch)


def open_run(path: Path | str) -> Run:
    """An existing run, whoever made it: no code that came with it is executed.

    Raises ConfigError if there is none, or if its config does not fit what is installed.
    """
    folder = RunFolder.open(Path(path))
    launch = (folder.read("run.json") or {}).get("launch", {})
    trackers = [file for name in launch.get("trackers", ()) for file in _files_named({"use": name})]
    for file in [*_files_named(folder.config()), *trackers]:
        if not file.is_absolute() or file.resolve().is_relative_to(folder.path.resolve()):
            raise ConfigError(
                f"{path}: it names {file}, code that came with the run and is not executed; "
                "if you trust it, copy it elsewhere and train with `sslx run --plugin PATH:Class`"
            )
    try:
        return Run(folder, configure(folder.config()))
    except ConfigError as error:
        used = (folder.read("run.json") or {}).get("components", [])
        others = {f"{c['distribution']} {c['version']}" for c in used if c.get("distribution", "sslx") != "sslx"}
        made = [f"{path} was made with {', '.join(sorted(others))}"] if others else []
        raise ConfigError([*error.problems, *made]) from error


def _files_named(config: Any) -> list[Path]:
    """The files of components in a config: `use = "FILE.py:Class"`, or `FILE.py:Class` as a key of evaluators."""
    found = []
    for key, value in config.items():
        names = [value] if key in ("use", *options_of(RunConfig)) and isinstance(value, str) else []
        found += [Path(file) for file, colon, _ in (name.rpartition(":") for name in (key, *names)) if colon]
        found += _files_named(value) if isinstance(value, Mapping) else []
    return [file for file in found if file.suffix == ".py"]


def differences(facts: Mapping[str, Any], config: RunConfig) -> list[str]:
    """A line for each thing that a run was made with, as its run.json says, and that is another one now."""
    lines: dict[str, None] = {}
    now: dict[str, Any] = versions()
    for name, before in facts.get("versions", {}).items():
        if now.get(name) != before:
            lines[f"{name} was {before}, and is {now.get(name, 'not installed')}"] = None
    current = {(c["kind"], c["name"]): c for c in (provenance(kind, use) for kind, use in _used(config))}
    for old in facts.get("components", []):
        new = current.get((old["kind"], old["name"]))
        if new is None:
            continue
        if old.get("version") != new.get("version"):
            lines[f"{old.get('distribution')} was {old.get('version')}, and is {new.get('version')}"] = None
        elif old.get("sha256", new["sha256"]) != new["sha256"]:
            origin = f" of {old['distribution']} {old['version']}" if "distribution" in old else ""
            lines[f"the code of {old['kind']} {old['name']}{origin} is not what it was"] = None
    return list(lines)


def _say_differences(run: Run) -> None:
    if os.environ.get("RANK", "0") == "0":
        for line in differences(run.folder.read("run.json") or {}, run.config):
            print(f"{run.path}: {line}", file=sys.stderr)


def recorded_launch(run: Run) -> Launch:
    """How the run was carried out when it was started."""
    facts = dict((run.folder.read("run.json") or {}).get("launch", {}))
    return Launch(**{**facts, "data_dir": Path(facts.get("data_dir", default_data_dir()))})


def evaluate_run(path: Path, evaluators: Mapping[str, Any], launch: Launch | None = None) -> Run:
    """Evaluate a finished run with other evaluators and add the results to its own."""
    run = open_run(path)
    if not run.folder.finished:
        raise ConfigError(f"{path}: not finished; `sslx resume {path}` first")
    _say_differences(run)
    config = configure(run.folder.config(), {"evaluators": evaluators}, evaluators=list(evaluators))
    run.folder.lock()
    try:
        launch = launch or recorded_launch(run)
        with borrowed(), _followed(launch):
            runtime = Runtime.start(launch.device)
            data = load_data(run.config, launch, runtime)
            method = run.method().to(runtime.device)
            load = partial(read, launch=launch)
            report = _evaluate(Run(run.folder, config), method, data, runtime, load, previous=run.results)
            registry().call("sslx_evaluated", run=run, report=report)
    finally:
        run.folder.unlock()
    return run


def replay_run(path: Path) -> Mapping[str, Any]:
    """Repeat the step at which a run crashed. Returns its terms, its gradient norm and where the first NaN arose."""
    run = open_run(path)
    _say_differences(run)
    with borrowed():
        launch = recorded_launch(run)
        runtime = Runtime.start(launch.device, run.config.train.precision)
        train, _ = load_data(run.config, launch, runtime)
        method = build(run.config, **_facts(train)).to(runtime.device)
        return replay(Engine(run.config, method, train, runtime, run.folder, _nobody))


# --- parts of a run ---------------------------------------------------------------------------------------------------


def load_data(config: RunConfig, launch: Launch, runtime: Runtime) -> tuple[Split, Split]:
    """Training and test split; the main process first, so that a download happens once."""
    if not runtime.main:
        runtime.barrier()
    train, test = read(config.dataset, launch)
    if runtime.main:
        runtime.barrier()
    if config.subset is not None:
        if config.subset > len(train):
            raise ConfigError(f"subset: expected at most {len(train)}, the images there are, got {config.subset}")
        if config.subset % train.arity:
            expected = f"a multiple of {train.arity}, as so many images belong together"
            raise ConfigError(f"subset: expected {expected}, got {config.subset}")
        order = train.shuffled(Use.SUBSET, config.seed)
        train = train.take(order[: config.subset].sort().values)
    return train, test


def read(dataset: Dataset, launch: Launch) -> tuple[Split, Split]:
    return checked(dataset.load(launch.data_dir, launch.offline), label(dataset))


def checked(halves: Any, name: str) -> tuple[Split, Split]:
    """What a dataset loaded, if it is what one may load. Raises DataError."""
    if not (isinstance(halves, tuple) and len(halves) == 2 and all(isinstance(half, Split) for half in halves)):
        raise DataError(f"dataset {name}: load must return a training and a test Split")
    for half, which in zip(halves, ("training", "test"), strict=True):
        images, labels = half.images, half.labels
        if len(images.shape) != 4 or images.dtype not in (torch.uint8, torch.float32) or len(images) == 0:
            found = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
            raise DataError(f"dataset {name}: expected {which} images as (n, C, H, W) uint8 or float32, got {found}")
        if labels is not None and len(labels) != len(images):
            raise DataError(f"dataset {name}: {len(images)} {which} images, but {len(labels)} labels")
        if half.sizes is not None and half.sizes.shape != (len(images), 2):
            raise DataError(f"dataset {name}: expected {which} sizes as (n, 2), got {tuple(half.sizes.shape)}")
        if len(images) % half.arity:
            raise DataError(f"dataset {name}: {len(images)} {which} images, but every {half.arity} belong together")
    train, test = halves
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(f"dataset {name}: training and test images differ in shape")
    return train, test


def build(config: RunConfig, image_shape: Sequence[int], samples: int, arity: int = 1) -> Method:
    """The method with its networks, whose initial weights are a function of the seed alone."""
    C, H, W = image_shape
    method = copy.deepcopy(config.method)  # the config's own is never built, so that it can be built again
    steps = config.train.epochs * (samples // config.train.batch_size)
    with borrowed():
        seed_torch(seed_of(Use.WEIGHTS, config.seed))
        method.build(Context((C, H, W), samples, config.views.count, steps, arity))
    return method


def _facts(split: Split) -> dict[str, Any]:
    """What `build` must know of the training set; run.json keeps it."""
    return {"image_shape": tuple(split.images.shape[1:]), "samples": len(split), "arity": split.arity}


def _create(config: RunConfig, launch: Launch, out: Path | None, data: tuple[Split, Split]) -> Path:
    train, test = data
    facts = environment() | {
        "components": [provenance(kind, use) for kind, use in _used(config)],
        "data": _facts(train),
        "launch": {**attrs.asdict(launch), "data_dir": str(launch.data_dir.resolve())},
    }
    name = f"{label(config.dataset)}-{label(config.method)}"
    folder = RunFolder.create(out, name, to_dict(config), facts)
    if skipped := dict.fromkeys([*train.skipped, *test.skipped]):  # both halves of a set that was split say the same
        folder.path.joinpath("bad-images.txt").write_text("".join(f"{line}\n" for line in skipped), encoding="utf-8")
    return folder.path


def _used(component: Any) -> list[tuple[str, str]]:
    """(kind, name) of every component in a config, each once."""
    found: dict[tuple[str, str], None] = {}
    for name in options_of(type(component)):
        value = getattr(component, name)
        for part in value.values() if isinstance(value, dict) else [value]:
            if isinstance(part, Component):
                if part.kind:
                    found[part.kind, reference(part)] = None
                found.update(dict.fromkeys(_used(part)))
    return list(found)


def _followed(launch: Launch) -> AbstractContextManager[None]:
    """While its trackers follow. Raises ConfigError for one that there is not."""
    problems: list[str] = []
    trackers = {name: make(Tracker, {"use": name}, "track", problems) for name in launch.trackers}
    if problems:
        raise ConfigError(problems)
    return registry().following(trackers)


def _nobody(hook: str, **arguments: Any) -> None:
    pass


def _execute(run: Run, data: tuple[Split, Split], runtime: Runtime, launch: Launch) -> Run:
    """Train from wherever the run stands, evaluate, export."""
    error: BaseException | None = None

    def notify(hook: str, **arguments: Any) -> None:
        if runtime.main:
            registry().call(hook, run=run, **arguments)

    if runtime.main:
        run.folder.lock()
    notify("sslx_run_start")
    try:
        _train(run, data[0], runtime, notify, launch.progress)
        if runtime.main:
            method = run.method().to(runtime.device)
            if isinstance(encoder := getattr(method, "encoder", None), Encoder):
                write_weights(encoder, run.image_shape, run.folder.export)
            pictures(method, data[1], runtime.device, run.config.seed, run.path)
            report = _evaluate(run, method, data, runtime, partial(read, launch=launch))
            notify("sslx_evaluated", report=report)
    except Interrupted as stop:
        error = Interrupted(f"{stop}; `sslx resume {run.path}` goes on with it")
        raise error from stop
    except BaseException as problem:
        error = problem
        raise
    finally:
        notify("sslx_run_end", error=error)
        if runtime.main:
            run.folder.unlock()
    return run


def _train(run: Run, train: Split, runtime: Runtime, notify: Any, progress: bool) -> None:
    method = build(run.config, **_facts(train)).to(runtime.device)
    engine = Engine(run.config, method, train, runtime, run.folder, notify, progress)
    path, complaints = checkpoint.newest(run.folder.checkpoints)
    if runtime.main:
        for damaged, complaint in complaints.items():
            print(f"{complaint}; using the one before it", file=sys.stderr)
            # Kept for whoever wants to look, but no longer counted among the checkpoints.
            damaged.rename(damaged.with_name(f"damaged-{damaged.name}-{time.time_ns()}"))
        run.folder.rewind(0 if path is None else int(path.name.removeprefix("step-")))
        for litter in run.folder.checkpoints.glob(".draft-*"):
            shutil.rmtree(litter, ignore_errors=True)
    runtime.barrier()
    if path is not None:
        engine.restore(path)
    engine.fit()
    if runtime.main:
        times = {"seconds": engine.seconds, "cpu_seconds": engine.cpu_seconds}
        run.folder.write("training.json", {**times, **diagnose(method, run.folder.metrics())})


def _evaluate(
    run: Run,
    method: Method,
    data: tuple[Split, Split],
    runtime: Runtime,
    load: Callable[[Dataset], tuple[Split, Split]],
    previous: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """Scores of the trained and of the untrained method, into results.json."""
    config = run.config
    untrained = build(config, **_facts(data[0])).to(runtime.device)
    report: dict[str, Any] = {}
    for name, subject in (("trained", method), ("untrained", untrained)):
        scores = evaluate(config.evaluators, subject, data, config.views, runtime.device, config.seed, load)
        report[name] = {**previous.get(name, {}), **scores}
    if previous:
        print(f"the results before are in {run.folder.keep_results()}", file=sys.stderr)
    run.folder.write("results.json", report)
    return report
