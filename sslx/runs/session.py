"""A run from beginning to end: data, training, evaluation, records."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sslx.core.data import Split
from sslx.core.dotted import merge
from sslx.core.errors import ConfigError, Interrupted, PluginError, Problems
from sslx.core.interfaces import Dataset, Encoder, Method, Tracker
from sslx.core.options import label, make, to_dict
from sslx.core.randomness import borrowed
from sslx.core.training import checkpoint
from sslx.core.training.config import RunConfig, configure, evaluator_table, layer
from sslx.core.training.diagnosis import diagnose
from sslx.core.training.engine import Engine, check, replay
from sslx.core.training.evaluation import evaluate as score
from sslx.core.training.run import Launch, Run, build, default_data_dir
from sslx.core.training.run_folder import RunFolder, environment
from sslx.core.training.runtime import Runtime
from sslx.outputs.export import write_weights
from sslx.outputs.pictures import pictures
from sslx.outputs.tables import failures
from sslx.plugins.registry import registry
from sslx.runs import provenance
from sslx.runs.data import facts, load_data


def run(
    plugin: str | type[Method] | Method | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    evaluators: Any = None,
    out: Path | str | None = None,
    device: str = "auto",
    data_dir: Path | str | None = None,
    offline: bool = False,
    trackers: Sequence[Any] | str = (),
    **options: Any,
) -> Run:
    """Train a method and evaluate its representation.

    `sslx.run("simvae", dataset="fashion-mnist", subset=2000, train={"epochs": 3}, prior={"use": "mixture"})`

    A name can always be replaced by a class or an object: `sslx.run(Mine(prior=MyPrior(scale=2.0)), dataset=MyData)`.

    Args:
        plugin: the method.
        config: the content of a config.toml, over which the other arguments go.
        evaluators: the evaluators, as a list, a table of their options, or text with commas; "all" stands for all
            evaluators that are installed.
        out: folder of the run; by default the next free `runs/DATASET-METHOD-N`.
        trackers: trackers that follow the run, as a list or as text with commas.
        options: options of a run (`dataset`, `views`, `loader`, `train`, `seed`, `subset`) and of the method, in tables
            as in a config.toml.

    Raises:
        ConfigError: something in the config is wrong, one line for each mistake.
    """
    given = layer(options)
    if plugin is not None:
        other = given.get("method", {})
        if not isinstance(other, Mapping) or "use" in other:
            raise ConfigError("method: is given twice, as the first argument and in `method`")
        given = merge({"method": {"use": plugin} if isinstance(plugin, str | type) else plugin}, given)
    selection = None
    if evaluators is not None:
        selection = evaluators if isinstance(evaluators, Mapping) else evaluator_table(evaluator_names(evaluators))
    resolved = configure(config or {}, given, evaluators=selection)
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    followed = tuple(trackers.split(",") if isinstance(trackers, str) else trackers)
    launch = Launch(device, 1, folder.resolve(), offline, trackers=followed)
    finished = start(resolved, launch, Path(out) if out else None)
    for line in failures([finished]):
        print(line, file=sys.stderr)
    return finished


def evaluator_names(names: Any) -> list[Any]:
    """Evaluators, given as a list or as text with commas; "all" becomes those that are installed and work."""
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]
    if not isinstance(names, Iterable):
        raise ConfigError(f"evaluators: expected names of evaluators, got {names!r}")
    return [each for name in names for each in (_installed() if isinstance(name, str) and name == "all" else [name])]


def _installed() -> list[str]:
    found = []
    for name, providers in registry().providers("evaluator").items():
        for provider in providers:
            full = name if len(providers) == 1 else f"{provider.plugin.distribution}/{name}"
            try:
                registry().resolve("evaluator", full)
                found.append(full)
            except PluginError as error:  # it was not asked for by name
                print(f"left out: {error}", file=sys.stderr)
    return found


def start(config: RunConfig, launch: Launch, out: Path | None = None) -> Run:
    """Carry out a new run, on every process that was launched for it."""
    with borrowed(), _followed(launch):
        runtime = Runtime.start(launch.device, config.train.precision)
        data = load_data(config, launch, runtime)
        check(config.train, data[0], runtime.world)
        folder = runtime.share(_create(config, launch, out, data) if runtime.main else None)
        run = Run(RunFolder(folder), config, objects := provenance.objects(config))
        if objects and runtime.main:
            names = ", ".join(dict.fromkeys(type(each).__name__ for each in objects))
            print(f"{folder}: its config alone cannot repeat it; to resume it, give objects=[{names}]", file=sys.stderr)
        try:
            return _execute(run, data, runtime, launch)
        except (ConfigError, PluginError):  # found when the method was built or met its first batch
            if runtime.main and not run.folder.checkpoints.exists() and not run.folder.metrics():
                shutil.rmtree(folder)
            raise


def resume(
    path: Path | str, launch: Launch | None = None, *, objects: Sequence[Any] = (), trust_code: bool = False
) -> Run:
    """Continue a run from its last whole checkpoint, bit for bit on a CPU. A finished run is left as it is.

    Args:
        launch: how to carry it out, if not as before.
        objects: the classes and components of scripts or notebooks that the run was started with.
        trust_code: whether files of code that the run names are executed.
    """
    run = open_run(path, objects=objects, trust_code=trust_code)
    if run.folder.finished:
        return run
    provenance.say_differences(run)
    launch = launch or run.launch
    with borrowed(), _followed(launch, run):
        runtime = Runtime.start(launch.device, run.config.train.precision)
        return _execute(run, load_data(run.config, launch, runtime), runtime, launch)


def open_run(path: Path | str, *, objects: Sequence[Any] = (), trust_code: bool = False) -> Run:
    """An existing run, whoever made it. Raises ConfigError if there is none.

    Args:
        objects: the classes and components of scripts or notebooks that the run was started with; needed to use its
            method, not to look at its results.
        trust_code: whether files of code that the run names are executed when its method is used.
    """
    return Run(RunFolder.open(Path(path)), objects=objects, trust_code=trust_code)


def evaluate(
    run: Run | Path | str,
    evaluators: Any,
    launch: Launch | None = None,
    *,
    objects: Sequence[Any] = (),
    trust_code: bool = False,
) -> Run:
    """Evaluate a finished run with other evaluators and add the results to its own.

    Args:
        run: the run or its folder.
        evaluators: as in `sslx.run`.
        objects: as in `sslx.resume`.
        trust_code: as in `sslx.resume`.
    """
    run = run if isinstance(run, Run) else open_run(run, objects=objects, trust_code=trust_code)
    if not run.folder.finished:
        raise ConfigError(f"{run.path}: not finished; `sslx resume {run.path}` first")
    provenance.say_differences(run)
    table = evaluators if isinstance(evaluators, Mapping) else evaluator_table(evaluator_names(evaluators))
    registry().vouch(part["use"] for part in table.values() if isinstance(part, Mapping) and "use" in part)
    config = run.configured({"evaluators": table}, evaluators=table)
    run.folder.lock()
    try:
        launch = launch or run.launch
        with borrowed(), _followed(launch, run):
            runtime = Runtime.start(launch.device)
            data = load_data(run.config, launch, runtime)
            method = run.method().to(runtime.device)
            report = _evaluate(Run(run.folder, config), method, data, runtime, launch, previous=run.results)
            registry().call("sslx_evaluated", run=run, report=report)
    finally:
        run.folder.unlock()
    return run


def replay_run(path: Path, trust_code: bool = False) -> Mapping[str, Any]:
    """Repeat the step at which a run crashed. Returns its terms, its gradient norm and where the first NaN arose."""
    run = open_run(path, trust_code=trust_code)
    provenance.say_differences(run)
    with borrowed():
        runtime = Runtime.start(run.launch.device, run.config.train.precision)
        train, _ = load_data(run.config, run.launch, runtime)
        method = build(run.config, **facts(train)).to(runtime.device)
        return replay(Engine(run.config, method, train, runtime, run.folder, lambda hook, **arguments: None))


# --- parts of a run ---------------------------------------------------------------------------------------------------


def _create(config: RunConfig, launch: Launch, out: Path | None, data: tuple[Split, Split]) -> Path:
    train, test = data
    record = {"components": provenance.components(config), "data": facts(train), "launch": launch.record()}
    name = f"{label(config.dataset)}-{label(config.method)}"
    folder = RunFolder.create(out, name, to_dict(config), environment() | record)
    if skipped := dict.fromkeys([*train.skipped, *test.skipped]):  # both halves of a set that was split say the same
        folder.path.joinpath("bad-images.txt").write_text("".join(f"{line}\n" for line in skipped), encoding="utf-8")
    return folder.path


def _followed(launch: Launch, run: Run | None = None) -> AbstractContextManager[None]:
    """Call the trackers' hooks inside this context. Raises ConfigError for an unknown tracker.

    Args:
        run: the run whose record may have named the trackers.
    """
    problems, trackers = Problems(), {}
    for tracker in launch.trackers:
        with problems.collecting(), nullcontext() if run is None else registry().on_record(run.trust_code):
            made = make(Tracker, tracker, "track")
            trackers[tracker if isinstance(tracker, str) else label(made)] = made
    problems.check()
    return registry().following(trackers)


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
            notify("sslx_evaluated", report=_evaluate(run, method, data, runtime, launch))
    except Interrupted as stop:
        error = Interrupted(f"{stop}; `sslx resume {run.path}` continues it")
        raise error from stop
    except BaseException as problem:
        error = problem
        raise
    finally:
        notify("sslx_run_end", error=error)
        if runtime.main:
            run.folder.unlock()
    return run


def _train(run: Run, train: Split, runtime: Runtime, notify: Callable[..., None], progress: bool) -> None:
    method = build(run.config, **facts(train)).to(runtime.device)
    engine = Engine(run.config, method, train, runtime, run.folder, notify, progress)
    path, complaints = checkpoint.newest(run.folder.checkpoints)
    if runtime.main:
        for damaged, complaint in complaints.items():
            print(f"{complaint}; using the one before it", file=sys.stderr)
            # Kept for inspection, but no longer counted among the checkpoints.
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
    launch: Launch,
    previous: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """Scores of the trained and of the untrained method, into results.json."""

    def load(dataset: Dataset) -> tuple[Split, Split]:
        return dataset.halves(launch.data_dir, launch.offline)

    config = run.config
    untrained = build(config, **facts(data[0])).to(runtime.device)
    report: dict[str, Any] = {}
    for name, subject in (("trained", method), ("untrained", untrained)):
        scores = score(config.evaluators, subject, data, config.views, runtime.device, config.seed, load)
        report[name] = {**previous.get(name, {}), **scores}
    if previous:
        print(f"the previous results are in {run.folder.keep_results()}", file=sys.stderr)
    run.folder.write("results.json", report)
    return report
