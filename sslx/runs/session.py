"""A run from beginning to end: data, training, evaluation, records."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import attrs

from sslx.core import signals
from sslx.core.console import printable, say, tolerant
from sslx.core.data import Split
from sslx.core.dotted import merge
from sslx.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    Interrupted,
    LostError,
    NonFiniteError,
    PluginError,
    Problems,
    SslxError,
)
from sslx.core.files import digest, replace
from sslx.core.interfaces import Dataset, Encoder, Method, Tracker
from sslx.core.options import label, listed, make, to_dict
from sslx.core.randomness import borrowed
from sslx.core.training import checkpoint
from sslx.core.training.config import RunConfig, configure, current, evaluator_table, layer
from sslx.core.training.diagnosis import diagnose
from sslx.core.training.during import check_evaluators, scorer
from sslx.core.training.engine import Engine, check, replay
from sslx.core.training.launch import announce, heed_launcher
from sslx.core.training.run import Launch, Run, build, default_data_dir
from sslx.core.training.run_folder import RunFolder, edits, environment, some
from sslx.core.training.runtime import Runtime, lost
from sslx.core.training.shapes import rehearse
from sslx.outputs import report
from sslx.outputs.export import write_weights
from sslx.outputs.pictures import pictures
from sslx.outputs.tables import failures
from sslx.plugins.registry import registry
from sslx.runs import provenance
from sslx.runs.changes import amend
from sslx.runs.data import Halves, changes as changes_of_data, chosen, facts, fingerprint, load_data, watched
from sslx.runs.protocols import with_protocol
from sslx.runs.scoring import halves_to_score, other_dataset, other_halves, score_run, together
from sslx.runs.weights import begin_with, encoder_from, quiet_hub


def run(
    plugin: str | type[Method] | Method | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    evaluators: Any = None,
    protocol: str | None = None,
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
        protocol: a protocol of a paper, such as "simvae", or a TOML file; its evaluators come in addition to those that
            are named, and its options are below the ones that are given here.
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
    if protocol is not None:
        named = current(config or {}).get("evaluators", {}) if selection is None else selection
        selection = with_protocol(protocol, named)
    resolved = configure(config or {}, given, evaluators=selection)
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    followed = tuple(trackers.split(",") if isinstance(trackers, str) else listed(trackers, "trackers"))
    launch = Launch(device, 1, folder.resolve(), offline, trackers=followed)
    finished = start(resolved, launch, Path(out) if out else None)
    for line in failures([finished]):
        say(line)
    return finished


def evaluator_names(names: Any) -> list[Any]:
    """Evaluators, given as a list or as text with commas; "all" becomes those that are installed and work."""
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]
    return [
        each
        for name in listed(names, "evaluators")
        for each in (_installed() if isinstance(name, str) and name == "all" else [name])
    ]


def _installed() -> list[str]:
    found = []
    for name, providers in registry().providers("evaluator").items():
        for provider in providers:
            full = name if len(providers) == 1 else f"{provider.plugin.distribution}/{name}"
            try:
                registry().resolve("evaluator", full)
                found.append(full)
            except PluginError as error:  # it was not asked for by name
                say(f"left out: {error}")
    return found


def start(config: RunConfig, launch: Launch, out: Path | None = None) -> Run:
    """Carry out a new run, on every process that was launched for it, or go on with this run if `out` has begun it."""
    with borrowed(), signals.heard(), _followed(launch), quiet_hub(launch.offline):
        runtime = Runtime.start(launch.device, config.train.precision)
        halves = load_data(config.dataset, launch, runtime)
        data = chosen(config, halves)
        check(config.train, data[0], runtime.world)
        check_evaluators(config)
        scored = halves_to_score(config, data, launch, runtime)
        begun = runtime.lead(lambda: _begun(config, out))
        folder = begun or runtime.lead(lambda: _create(config, launch, out, halves, data))
        run = Run(RunFolder(folder), config, objects := provenance.objects(config))
        if objects:
            names = ", ".join(dict.fromkeys(type(each).__name__ for each in objects))
            say(f"{folder}: its config alone cannot repeat it; to resume it, give objects=[{names}]")
        if begun is not None:
            runtime.lead(lambda: _same_data(run, halves))
        try:
            return _execute(run, data, scored, watched(config, halves, scored), runtime, launch)
        except (Interrupted, LostError, NonFiniteError):
            raise
        except Exception:  # a folder without a step is of no use, and would be in the way of the next attempt
            if runtime.main and not run.folder.checkpoints.exists() and not run.folder.begun:
                shutil.rmtree(folder, ignore_errors=True)
            raise


def resume(
    path: Path | str,
    launch: Launch | None = None,
    *,
    changes: Mapping[str, Any] = {},
    changed_data: bool = False,
    device: str | None = None,
    data_dir: Path | str | None = None,
    objects: Any = (),
    trust_code: bool = False,
) -> Run:
    """Continue a run from its last whole checkpoint, bit for bit on a CPU. A finished run is left as it is.

    Args:
        launch: how to carry it out, if not as before.
        changes: options to change from here on, such as `{"train.epochs": 40}`, which also continues a finished run:
            those of `train` but the batch size and the kind of optimizer, of `loader` and of `evaluators`, and the
            paths of the dataset. run.json records them.
        changed_data: whether to continue although the images are not those of before. run.json records it.
        device: as in `run`; by default as before.
        data_dir: as in `run`; by default as before.
        objects: the classes and components of scripts or notebooks that the run was started with.
        trust_code: whether files of code that the run names are executed.
    """
    run = open_run(path, objects=objects, trust_code=trust_code)
    if run.folder.finished and not changes:
        return run
    launch = _launched(run, launch, device, data_dir)
    provenance.say_differences(run)
    with borrowed(), signals.heard(), _followed(launch, run), quiet_hub(launch.offline):
        runtime = Runtime.start(launch.device, run.config.train.precision)
        halves = load_data(run.configured(layer(changes)).dataset, launch, runtime)
        runtime.lead(lambda: _same_data(run, halves, changed_data))
        if changes:
            runtime.lead(lambda: amend(run, changes))
            run = open_run(path, objects=objects, trust_code=trust_code)
            if run.folder.finished:
                return run
        data = chosen(run.config, halves)
        check(run.config.train, data[0], runtime.world)
        scored = halves_to_score(run.config, data, launch, runtime)
        return _execute(run, data, scored, watched(run.config, halves, scored), runtime, launch)


def open_run(path: Path | str, *, checkpoint: int | None = None, objects: Any = (), trust_code: bool = False) -> Run:
    """An existing run, no matter who made it. Raises ConfigError if there is none.

    Args:
        checkpoint: the step of the checkpoint whose weights its method has; by default the last one.
        objects: the classes and components of scripts or notebooks that the run was started with; needed to use its
            method, not to look at its results.
        trust_code: whether files of code that the run names are executed when its method is used.
    """
    return Run(RunFolder.open(Path(path)), objects=objects, trust_code=trust_code, checkpoint=checkpoint)


def evaluate(
    run: Run | Path | str,
    evaluators: Any = None,
    launch: Launch | None = None,
    *,
    protocol: str | None = None,
    dataset: Any = None,
    device: str | None = None,
    data_dir: Path | str | None = None,
    objects: Any = (),
    trust_code: bool = False,
) -> Run:
    """Evaluate a finished run with other evaluators, or on other data, and add the results to its own.

    If the images are not those that it was trained on, this is said and recorded with the results.

    Args:
        run: the run or its folder.
        evaluators: as in `sslx.run`; by default those of the run, and none with a protocol.
        protocol: as in `sslx.run`.
        dataset: another dataset, whose images and labels are scored: a name, a class, an object, or a table of options,
            which without `use` are options of the run's own dataset. Images of another shape are converted to the
            run's. Its results are kept beside those on other data, and tables do not mix them.
        launch: how to carry it out, if not as before.
        device: as in `sslx.run`; by default as before.
        data_dir: as in `sslx.run`; by default as before.
        objects: as in `sslx.resume`.
        trust_code: as in `sslx.resume`.
    """
    run = run if isinstance(run, Run) else open_run(run, objects=objects, trust_code=trust_code)
    if not run.folder.finished:
        raise ConfigError(f"{run.path}: not finished; `sslx resume {run.path}` first")
    previous = run.results  # before anything is computed, as they may be damaged
    if evaluators is None and protocol is None:
        evaluators = run.settings["evaluators"]
    table = evaluators if isinstance(evaluators, Mapping) else evaluator_table(evaluator_names(evaluators or ()))
    if protocol is not None:
        table = with_protocol(protocol, table)
    if not table:
        raise ConfigError("evaluators: expected names of evaluators, or a protocol")
    registry().vouch(part["use"] for part in table.values() if isinstance(part, Mapping) and "use" in part)
    provenance.say_differences(run)
    config = run.configured(other_dataset(run, dataset), {"evaluators": table}, evaluators=table)
    launch = _launched(run, launch, device, data_dir)
    try:
        with borrowed(), signals.heard(), _followed(launch, run), quiet_hub(launch.offline):
            runtime = Runtime.start(launch.device)
            runtime.lead(run.folder.lock)
            evaluated = Run(run.folder, config, run.objects, run.trust_code, run.checkpoint)
            trained, changed = cache(lambda: run.method().to(runtime.device)), ""
            if config.eval_dataset is None:
                halves = load_data(config.dataset, launch, runtime)
                data, changed = chosen(config, halves), _others(run, halves)
            else:
                data = other_halves(config.eval_dataset, run.image_shape, launch, runtime)
            with together(evaluated, trained, data, runtime, launch) as team:
                if runtime.main:
                    scores = score_run(evaluated, trained(), data, runtime, launch, previous, changed, team)
                    registry().call("sslx_evaluated", run=run, report=scores)
                    report.written(run)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; the same command continues") from stop
    finally:
        run.folder.unlock()
    return run


def evaluate_model(
    source: str,
    evaluators: Any,
    dataset: Any = None,
    encoder: Mapping[str, Any] = {},
    launch: Launch | None = None,
    out: Path | str | None = None,
    trust_code: bool = False,
) -> Run:
    """Evaluate the features of an encoder that no run has trained. The result is a run of `random` without training.

    Args:
        source: `timm:NAME`, whose images are prepared as for its weights, or a .safetensors file.
        evaluators: as in `sslx.run`.
        dataset: the images that are scored, as in `sslx.run`.
        encoder: options of the encoder, with its name under `use` where the file does not come with a config of sslx.
        launch: how to carry it out.
        out: folder of the run, by default the next free `runs/DATASET-random-N`.
        trust_code: whether a file of code that the config beside the weights names is executed.
    """
    part = encoder_from(source, encoder, trust_code)
    table = evaluators if isinstance(evaluators, Mapping) else evaluator_table(evaluator_names(evaluators))
    method = {"use": "random", "encoder": part, "representation": "features"}
    config = {"method": method, "weights": source, **({"dataset": dataset} if dataset else {})}
    return start(configure(config, evaluators=table), launch or Launch(), Path(out) if out else None)


def replay_run(path: Path, trust_code: bool = False) -> Mapping[str, Any]:
    """Repeat the step at which a run crashed. Returns its terms, its gradient norm and where the first NaN arose."""
    run = open_run(path, trust_code=trust_code)
    provenance.say_differences(run)
    with borrowed():
        runtime = Runtime.start(run.launch.device, run.config.train.precision)
        train, _ = chosen(run.config, load_data(run.config.dataset, run.launch, runtime))
        method = build(run.config, **facts(train)).to(runtime.device)
        return replay(Engine(run.config, method, train, runtime, run.folder, lambda hook, **arguments: None))


# --- parts of a run ---------------------------------------------------------------------------------------------------


def _launched(run: Run, launch: Launch | None, device: str | None, data_dir: Path | str | None) -> Launch:
    """How to carry out a run: as `launch` says, or as before, with these changes."""
    launch = launch or run.launch
    if device is not None:
        launch = attrs.evolve(launch, device=device)
    if data_dir is not None:
        launch = attrs.evolve(launch, data_dir=Path(data_dir).expanduser().resolve(), offline=False)
    return launch


def _begun(config: RunConfig, out: Path | None) -> Path | None:
    """The folder `out` if it holds this run, not finished. So the same command goes on after whatever ended it."""
    if out is None or not (out / "config.toml").is_file():
        return None
    folder = RunFolder.open(out)
    if folder.finished:
        raise ConfigError(f"out: {out} holds a finished run; choose another folder, or `sslx resume {out} --epochs N`")
    begun = Run(folder, objects=provenance.objects(config))
    if lines := edits(to_dict(begun.config), to_dict(config)):
        advice = f"choose another folder, or continue that run with `sslx resume {out}`"
        raise ConfigError(f"out: {out} holds another run: {some(lines)}; {advice}")
    say(f"{out}: continues the run that was begun here")
    return out


def _create(config: RunConfig, launch: Launch, out: Path | None, halves: Halves, data: Halves) -> Path:
    train, test = data
    record = {"components": provenance.components(config), "data": facts(train), "launch": launch.record()}
    record |= {"fingerprint": fingerprint(halves)}
    name = f"{label(config.dataset)}-{label(config.method)}"
    folder = RunFolder.create(out, name, to_dict(config), environment() | record)
    if skipped := dict.fromkeys([*train.skipped, *test.skipped]):  # both halves of a set that was split say the same
        replace(folder.path / "bad-images.txt", "".join(f"{printable(line)}\n" for line in skipped))
    return folder.path


def _others(run: Run, halves: Halves) -> str:
    """How the images differ from those that the run was made with; empty if they do not."""
    return "; ".join(changes_of_data(run.folder.facts().get("fingerprint", {}), fingerprint(halves)))


def _same_data(run: Run, halves: Halves, changed: bool = False) -> None:
    """Check that the images are those of before, or record that they are `changed`. Raises DataError."""
    if not (said := _others(run, halves)):
        return
    recorded, train = run.folder.facts(), chosen(run.config, halves)[0]
    if facts(train) != {**run.data, "image_shape": run.image_shape}:
        raise DataError(
            f"{run.path}: {said}, so that its training cannot continue; `sslx run --from {run.path}` starts another "
            "run from its weights"
        )
    if not changed:
        raise DataError(f"{run.path}: {said}; --changed-data continues with them, and run.json records it")
    path, _ = checkpoint.newest(run.folder.checkpoints)
    step = 0 if path is None else checkpoint.manifest(path)["step"]
    before = digest(recorded.get("config", run.settings))
    change = {"step": step, "options": {"data": said}, "before": before}
    history = [*recorded.get("changes", []), change]
    run.folder.write("run.json", recorded | {"fingerprint": fingerprint(halves), "changes": history})


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


def _execute(run: Run, data: Halves, scored: Halves, during: Halves, runtime: Runtime, launch: Launch) -> Run:
    """Train from wherever the run stands, evaluate, export. Only what fails in training ends it with an error."""
    error: BaseException | None = None

    def notify(hook: str, **arguments: Any) -> None:
        if runtime.main:
            registry().call(hook, run=run, **arguments)
            if hook == "sslx_metrics":
                live.refresh()

    live = report.Live(run)
    announce(run.path)
    heed_launcher()
    runtime.lead(run.folder.lock)
    notify("sslx_run_start")
    try:
        _train(run, data[0], during, runtime, notify, launch)
        trained = cache(lambda: run.method().to(runtime.device))
        with together(run, trained, scored, runtime, launch) as team:
            if runtime.main:
                method = trained()
                if isinstance(encoder := getattr(method, "encoder", None), Encoder):
                    with tolerant(f"{run.folder.export}: not written"):
                        write_weights(encoder, run.image_shape, run.folder.export)
                with tolerant(f"{run.path}: no pictures"):
                    pictures(method, data[1], runtime.device, run.config.seed, run.path, views=run.config.views)
                if report.wanted(run):
                    report.gather(method, data[1], runtime.device, run.config.seed, run.path, run.config.views)
                notify("sslx_evaluated", report=score_run(run, method, scored, runtime, launch, team=team))
                report.written(run)
    except Interrupted as stop:
        error = Interrupted(f"{stop}; `sslx resume {run.path}` continues it")
        raise error from stop
    except BaseException as problem:
        error = problem
        if isinstance(problem, SystemExit | GeneratorExit):
            raise PluginError(f"{run.path}: its code ended with {type(problem).__name__}({problem})") from problem
        if lost(problem):
            raise LostError(f"another process of {run.path} is gone; `sslx resume {run.path}` continues") from problem
        if not isinstance(problem, SslxError) and run.folder.checkpoints.is_dir():
            vars(problem)["sslx_run"] = run.path  # the command line says how to go on
        raise
    finally:
        notify("sslx_run_end", error=error)
        if runtime.main:
            run.folder.unlock()
    return run


def _train(
    run: Run, train: Split, during: Halves, runtime: Runtime, notify: Callable[..., None], launch: Launch
) -> None:
    def load(dataset: Dataset) -> Halves:
        return dataset.halves(launch.data_dir, launch.offline)

    make_method = partial(build, run.config, **facts(train))
    method = make_method().to(runtime.device)
    score = scorer(run.config, make_method, during, runtime.device, load)
    recorded = run.folder.facts()
    written = recorded.get("config", to_dict(run.config))  # perhaps by an older version, with fewer options
    rests_on = {"config": digest(written), "data": digest(recorded.get("fingerprint", {}))}
    rehearse(run.config, method, train)
    engine = Engine(
        run.config, method, train, runtime, run.folder, notify, launch.progress, rests_on, score, launch.prune
    )
    path = runtime.lead(lambda: _continued(run))
    if path is not None:
        engine.restore(path)
        if not engine.complete:
            say(f"{run.path}: continues at step {engine.step:,} of {engine.total:,}")
    else:
        method.begin(train)
    if path is None and run.config.weights is not None:
        source = begin_with(method, run.config.weights, launch.offline)
        if runtime.main:
            run.folder.write("run.json", recorded | {"weights": source})
        kept = f"; {', '.join(source['initial'])} begin at random" if source["initial"] else ""
        say(f"{run.path}: {source['taken']} of {source['of']} weights are those of {source['from']}{kept}")
    engine.fit()
    if runtime.main:
        seen = engine.step * run.config.train.batch_size
        result: dict[str, Any] = {"seconds": engine.seconds, "cpu_seconds": engine.cpu_seconds, "images": seen}
        with tolerant(f"{run.path}: no diagnosis"):
            result |= diagnose(method, run.folder.metrics())
        if engine.best is not None:
            result["best"] = engine.best._asdict()
        run.folder.write("training.json", result)


def _continued(run: Run) -> Path | None:
    """The checkpoint from which training goes on, in a folder that is as it was when it was written."""
    begun = run.folder.begun
    run.folder.settle()
    path, complaints = checkpoint.newest(run.folder.checkpoints)
    if begun and path is None:
        say(f"{run.path}: it stopped before its first checkpoint, so the training begins again")
    for damaged, complaint in complaints.items():
        say(f"{complaint}; using the one before it")
        # Kept for inspection, but no longer counted among the checkpoints.
        damaged.rename(damaged.with_name(f"damaged-{damaged.name}-{time.time_ns()}"))
    facts = {} if path is None else checkpoint.manifest(path)
    if said := provenance.foreign(facts, run.folder.facts()):
        raise CheckpointError(f"{path}: {said}")
    if said := run.folder.rewind(facts.get("step", 0), facts.get("metrics")):
        say(said)
    for litter in run.folder.checkpoints.glob(".draft-*"):
        shutil.rmtree(litter, ignore_errors=True)
    return path
