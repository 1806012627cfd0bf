"""Commands that make or read runs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sslx import formats, report, session
from sslx.core.config import EVALUATORS, SECTIONS, RunConfig, configure, deep, layer, merge, overlay
from sslx.core.errors import ConfigError, SslxError
from sslx.core.launch import relaunch
from sslx.core.options import Text
from sslx.core.runtime import Runtime
from sslx.core.toml import read
from sslx.formats import FORMATS
from sslx.grid import Grid, combinations, is_grid, names, read_sweep

_PATH = click.Path(path_type=Path)


def machine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option("--offline", is_flag=True, help="Never download anything."),
        click.option("--data-dir", type=_PATH, help="Where datasets are.  [$SSLX_DATA, or a folder in your cache]"),
        click.option("--device", help="cpu, cuda, cuda:1, ...  [cuda where there is one]"),
    ):
        command = decorate(command)
    return command


def launch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        machine_options,
        click.option("--devices", type=click.IntRange(1), help="Processes to train with, under torchrun.  [1]"),
        click.option("--track", help="Trackers, with commas: tensorboard, trackio:PROJECT."),
    ):
        command = decorate(command)
    return command


@click.command("run")
@click.option("--plugin", "-p", help="Method: a name, several with commas, or ./file.py:Class.")
@click.option("--dataset", "-d", help="Dataset.  [digits]")
@click.option("--loader", "-l", help="How images reach the device.  [memory]")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the method, or of "
              f"a section: {', '.join(name + '.KEY' for name in SECTIONS)}. Repeatable.")  # fmt: skip
@click.option("--epochs", help="Passes over the training set.")
@click.option("--batch-size", help="Images of a step; each gives several views.")
@click.option("--lr", help="Learning rate.")
@click.option("--views", help="Views of each image.")
@click.option("--subset", help="Use a seeded sample of so many training images.")
@click.option("--bad-images", help="What to do with files that are no images: fail or skip.  [fail]")
@click.option("--seed", help="Decides everything that is random; several with commas.  [0]")
@click.option("--restarts", type=click.IntRange(2), help="Train with so many seeds; the best by its losses counts.")
@click.option("--cpu-seconds", help="Stop training after this much processor time.")
@click.option("--precision", help="fp32 or bf16.  [fp32]")
@click.option("--compile", is_flag=True, help="Compile the method with torch.compile.")
@click.option("--evaluators", "-e", help="Names with commas, or all.  [knn,linear]")
@click.option("--config", type=_PATH, help="Start from a config.toml.")
@click.option("--sweep", type=_PATH, help="Many runs: a config with lists of values in [grid], or tables in [[runs]].")
@click.option("--out", "-o", type=_PATH, help="Folder of the run.  [runs/DATASET-METHOD-N]")
@launch_options
def run_command(
    plugin: str | None,
    settings: Sequence[str],
    config: Path | None,
    sweep: Path | None,
    out: Path | None,
    restarts: int | None,
    **flags: Any,
) -> None:
    """Train methods and evaluate their representations.

    `sslx plugins show METHOD` lists what `--set` can set. Several plugins or seeds, or a sweep, are runs in one folder,
    one after another. The same command again goes on with those that are not finished. Restarts are runs with the seed
    and those after it; which is the best is found without labels: terms of the loss are near their known minima.
    """
    launch = launched(flags)
    if config is not None and config.is_dir():
        config = config / "config.toml"
    if sweep is not None and config is not None:
        raise ConfigError("--sweep: has a config in it, expected no --config beside it")
    base, choices = read_sweep(sweep) if sweep else (read(config) if config else {}, [{}])
    set_here = _settings(settings)
    if not isinstance(given := base.get("evaluators", {}), dict):
        base["evaluators"] = dict.fromkeys(session.evaluator_names(given), {})
    if isinstance(named := set_here.get("evaluators"), str):
        set_here["evaluators"] = dict.fromkeys(_evaluators(named), {})
    evaluators = list(base.get("evaluators", EVALUATORS)) if named is None else []
    if flags["evaluators"] is not None:
        evaluators = _evaluators(flags["evaluators"])
    evaluators += [name for name in set_here.get("evaluators", {}) if name not in evaluators]
    axes: dict[str, Sequence[Any]] = {
        "method": words(plugin or ""),
        "seed": [Text(seed) for seed in words(flags.pop("seed") or "")],
    }
    if restarts:
        axes["seed"] = _restarts(axes["seed"] or [base.get("seed", 0)], restarts)
    chosen = combinations({key: values for key, values in axes.items() if values})
    choices = [{**choice, **more} for more in chosen for choice in choices]
    if "method" not in base and any("method" not in choice for choice in choices):
        raise ConfigError("--plugin: expected the name of a method; `sslx plugins list` shows them")
    evaluators += {key.split(".")[1]: 0 for choice in choices for key in choice if key.startswith("evaluators.")}
    here = overlay(_flags(flags), set_here)
    # All configs are checked before the first of them trains.
    configs = _configured([[base, layer(choice), here] for choice in choices], evaluators)
    record = None if config is None else config.parent / "run.json"
    if record is not None and record.is_file() and os.environ.get("RANK", "0") == "0":  # a run is repeated
        for line in session.differences(json.loads(record.read_text()), configs[0]):
            click.echo(f"{record.parent}: {line}", err=True)
    grid = None
    if sweep is not None or len(configs) > 1:
        varied = [
            {key: value for key, value in choice.items() if key != "seed" or len(axes["seed"]) != 1}
            for choice in choices
        ]
        grid = Grid.make(out, dict(zip(names(varied, configs), configs, strict=True)), launch, restarts is not None)
    if "RANK" not in os.environ and launch.devices > 1:
        sys.exit(relaunch(launch.devices))
    if grid is not None:
        _carry_out(grid)
    else:
        _print([session.start(configs[0], launch, out)])


@click.command("resume")
@click.argument("path", metavar="RUN", type=_PATH)
@launch_options
def resume_command(path: Path, **flags: Any) -> None:
    """Go on with a run, or with the runs of a grid, that was stopped, as if it never had been.

    A finished run is left as it is.
    """
    if is_grid(path):
        found = Grid.open(path)
        grid = Grid(path, found.configs, launched(flags, found.launch), found.restarts)
        if grid.launch.devices > 1 and "RANK" not in os.environ:
            sys.exit(relaunch(grid.launch.devices))
        _carry_out(grid)
        return
    run = session.open_run(path)
    launch = launched(flags, session.recorded_launch(run))
    if run.folder.finished:
        click.echo(f"{path} is finished")
    elif launch.devices > 1 and "RANK" not in os.environ:
        sys.exit(relaunch(launch.devices))
    else:
        run = session.resume(path, launch)
    _print([run])


@click.command("eval")
@click.argument("path", metavar="RUN", type=_PATH)
@click.option("--evaluators", "-e", required=True, help="Names with commas, or all.")
@click.option("--set", "-s", "settings", multiple=True, metavar="EVALUATOR.KEY=VALUE", help="An evaluator's option; "
              "evaluators.EVALUATOR.KEY=VALUE is the same.")  # fmt: skip
@launch_options
def eval_command(path: Path, evaluators: str, settings: Sequence[str], **flags: Any) -> None:
    """Evaluate a finished run, or those of a grid, with other evaluators."""
    names, options = _evaluators(evaluators), nested(settings)
    options = merge(options.pop("evaluators", {}), options)  # as `run` calls them
    if others := sorted(set(options) - set(names)):
        raise ConfigError(f"--set {others[0]}: expected one of the evaluators that are named, {evaluators}")
    chosen = merge(dict.fromkeys(names, {}), options)
    runs = _opened([path])
    launch = launched(flags, session.recorded_launch(runs[0]))
    _print([session.evaluate_run(run.path, chosen, launch) for run in runs])


@click.command("compare")
@click.argument("paths", metavar="RUN...", type=_PATH, nargs=-1, required=True)
@click.option("--scores", help="Columns, with commas; * stands for anything, an evaluator for its first score.  [all]")
@click.option("--format", "style", type=click.Choice(list(FORMATS)), default="text", help="[text]")
@click.option("--to", type=_PATH, help="Write the table to this file.")
def compare_command(paths: Sequence[Path], scores: str | None, style: str, to: Path | None) -> None:
    """One table of several runs or grids, with mean and standard error of those that differ only in the seed.

    Each dataset has a table of its own. Where runs of a method differ in options, these are in the row's name.
    """
    runs = _opened(paths)
    if unfinished := [str(run.path) for run in runs if not run.folder.finished]:
        raise ConfigError(f"not finished: {', '.join(unfinished)}; `sslx resume` goes on with a run")
    found = report.tables(runs, words(scores or ""))
    if style == "text" and to is None:
        output = formats.text(found, _screen())
    else:
        output = FORMATS[style](found)
    if to is None:
        click.echo(output, nl=False)
    else:
        try:
            to.write_text(output, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--to: {to} cannot be written ({error.strerror})") from error
    if style == "csv":  # has no place for them
        for table in found:
            for note in table.notes:
                click.echo(note, err=True)


@click.command("replay")
@click.argument("path", metavar="RUN", type=_PATH)
def replay_command(path: Path) -> None:
    """Repeat the step at which a run crashed, and say where the first NaN arose."""
    facts = session.replay_run(path)
    for name, value in facts.items():
        click.echo(f"{name}: {value}")


def launched(flags: dict[str, Any], base: session.Launch | None = None) -> session.Launch:
    base = base or session.Launch()
    given = {name: flags.pop(name, None) for name in ("device", "devices", "data_dir", "offline", "track")}
    folder = given["data_dir"] or base.data_dir
    return session.Launch(
        device=given["device"] or base.device,
        devices=given["devices"] or base.devices,
        data_dir=folder.expanduser().resolve(),
        offline=given["offline"] or base.offline,
        trackers=words(given["track"] or "") or base.trackers,
    )


def words(text: str) -> list[str]:
    """Names with commas between them. Raises ConfigError if one is there twice."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{text}: {twice[0]} is named twice")
    return names


def _evaluators(text: str) -> list[str]:
    return session.evaluator_names(words(text))


def _flags(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags as a layer of the config."""
    train = {name: flags[name] for name in ("epochs", "batch_size", "lr", "cpu_seconds", "precision") if flags[name]}
    given: dict[str, Any] = {"train": {name: Text(value) for name, value in train.items()}}
    if flags["compile"]:
        given["train"]["compile"] = True
    if flags["views"]:
        given["views"] = {"count": Text(flags["views"])}
    if flags["dataset"]:
        given["dataset"] = {"use": Text(flags["dataset"])}
    if flags["bad_images"]:
        given["dataset"] = given.get("dataset", {}) | {"bad_images": Text(flags["bad_images"])}
    return given | {name: Text(flags[name]) for name in ("loader", "subset") if flags[name]}


def _settings(settings: Sequence[str]) -> dict[str, Any]:
    """`--set` as a layer of the config: a key is the method's unless it begins with a section."""
    given = nested(settings)
    sections = {name: value for name, value in given.items() if name in (*SECTIONS, "method")}
    method = {name: value for name, value in given.items() if name not in sections}
    return merge(sections, {"method": method} if method else {})


def nested(settings: Sequence[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {setting}: expected KEY=VALUE, such as prior.variance=0.1")
        result = overlay(result, deep(key.strip(), Text(value)))
    return result


def _opened(paths: Sequence[Path]) -> list[session.Run]:
    """Runs, and of grids those that are finished."""
    runs = []
    for path in paths:
        if not is_grid(path):
            runs.append(session.open_run(path))
        elif finished := Grid.open(path).finished():
            runs += finished
        else:
            raise ConfigError(f"{path}: no run of it is finished; `sslx resume {path}` goes on with them")
    return runs


def _configured(layers: Sequence[Sequence[dict[str, Any]]], evaluators: Sequence[str]) -> list[RunConfig]:
    """A config from the layers of each run. Raises ConfigError with a line for each mistake in any of them."""
    configs, problems = [], dict[str, None]()
    for each in layers:
        try:
            configs.append(configure(*each, evaluators=evaluators))
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(list(problems))
    return configs


def _carry_out(grid: Grid) -> None:
    if main := os.environ.get("RANK", "0") == "0":
        grid.create()
    Runtime.start(grid.launch.device).barrier()
    failed, runs = grid.carry_out(), grid.finished()
    if main:
        ranking = grid.ranking() if grid.restarts else []
        if runs:
            shown = [group[0] for group in ranking] or runs
            click.echo(formats.text(report.tables(shown), _screen()), nl=False)
        click.echo(f"{grid.path}: {len(runs)} of {len(grid.configs)} runs are finished")
        for group in ranking:
            for place, run in enumerate(group):
                click.echo(f"{'the best, as above' if place == 0 else 'after it'}: {run.path}, {_diagnosis(run)}")
    if failed := [*failed, *report.failures(runs)]:
        raise SslxError("\n".join(failed))


def _restarts(seeds: Sequence[Any], restarts: int) -> list[Any]:
    """The seed, and those after it."""
    if len(seeds) != 1:
        raise ConfigError("--restarts: takes the seeds that follow the first one, expected a single --seed with it")
    try:
        return [int(seeds[0]) + i for i in range(restarts)]
    except ValueError:
        return list(seeds)  # which the check of the config reports


def _diagnosis(run: session.Run) -> str:
    facts = run.training
    score = f"{facts['score_by']} {facts['score']:.4g}" if "score" in facts else "not trained"
    return score + (f": {facts['diagnosis']}" if facts.get("diagnosis") else "")


def _screen() -> int:
    return shutil.get_terminal_size((120, 24)).columns


def _print(runs: Sequence[session.Run]) -> None:
    if os.environ.get("RANK", "0") == "0":
        click.echo(formats.text(report.tables(runs), _screen()), nl=False)
        for run in runs:
            time = run.training
            click.echo(
                f"{run.path}: trained {time.get('seconds', 0):.1f} s ({time.get('cpu_seconds', 0):.1f} CPU-seconds)"
            )
            if time.get("diagnosis"):
                click.echo(f"{run.path}: {time['diagnosis']}")
    if failed := report.failures(runs):
        raise SslxError("\n".join(failed))
