"""Commands that make or read runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sslx import report, session
from sslx.core.config import EVALUATORS, SECTIONS, configure, merge
from sslx.core.errors import ConfigError, SslxError
from sslx.core.launch import relaunch
from sslx.core.options import Text
from sslx.core.toml import read

_PATH = click.Path(path_type=Path)


def _launch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option("--offline", is_flag=True, help="Never download anything."),
        click.option("--data-dir", type=_PATH, help="Where datasets are.  [$SSLX_DATA, or a folder in your cache]"),
        click.option("--devices", type=click.IntRange(1), help="Processes to train with, under torchrun.  [1]"),
        click.option("--device", help="cpu, cuda, cuda:1, ...  [cuda where there is one]"),
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
@click.option("--seed", help="Decides everything that is random.  [0]")
@click.option("--cpu-seconds", help="Stop training after this much processor time.")
@click.option("--precision", help="fp32 or bf16.  [fp32]")
@click.option("--compile", is_flag=True, help="Compile the method with torch.compile.")
@click.option("--evaluators", "-e", help="Names with commas.  [knn,linear]")
@click.option("--config", type=_PATH, help="Start from a config.toml.")
@click.option("--out", "-o", type=_PATH, help="Folder of the run.  [runs/DATASET-METHOD-N]")
@_launch_options
def run_command(
    plugin: str | None, settings: Sequence[str], config: Path | None, out: Path | None, **flags: Any
) -> None:
    """Train methods and evaluate their representations.

    `sslx plugins show METHOD` lists what `--set` can set.
    """
    launch = _launch(flags)
    if config is not None and config.is_dir():
        config = config / "config.toml"
    base, set_here = read(config) if config else {}, _settings(settings)
    if isinstance(named := set_here.get("evaluators"), str):
        set_here["evaluators"] = dict.fromkeys(_names(named), {})
    evaluators = list(base.get("evaluators", EVALUATORS)) if named is None else []
    if flags["evaluators"] is not None:
        evaluators = _names(flags["evaluators"])
    evaluators += [name for name in set_here.get("evaluators", {}) if name not in evaluators]
    names = _names(plugin) if plugin else [None]
    if plugin is None and "method" not in base:
        raise ConfigError("--plugin: expected the name of a method; `sslx plugins list` shows them")
    layers = [base, _flags(flags), set_here]
    # All configs are checked before the first of them trains.
    configs = [
        configure(layers[0], {"method": {"use": name}} if name else {}, *layers[1:], evaluators=evaluators)
        for name in names
    ]
    if launch.devices > 1 and "RANK" not in os.environ:
        sys.exit(relaunch(launch.devices))
    runs = []
    for resolved in configs:
        folder = out / session.label(resolved.method) if out and len(configs) > 1 else out
        runs.append(session.start(resolved, launch, folder))
    _print(runs)


@click.command("resume")
@click.argument("path", metavar="RUN", type=_PATH)
@_launch_options
def resume_command(path: Path, **flags: Any) -> None:
    """Go on with a run that was stopped, as if it never had been. A finished run is left as it is."""
    run = session.open_run(path)
    launch = _launch(flags, session.recorded_launch(run))
    if run.folder.finished:
        click.echo(f"{path} is finished")
    elif launch.devices > 1 and "RANK" not in os.environ:
        sys.exit(relaunch(launch.devices))
    else:
        run = session.resume(path, launch)
    _print([run])


@click.command("eval")
@click.argument("path", metavar="RUN", type=_PATH)
@click.option("--evaluators", "-e", required=True, help="Names with commas.")
@click.option("--set", "-s", "settings", multiple=True, metavar="EVALUATOR.KEY=VALUE", help="An evaluator's option.")
@_launch_options
def eval_command(path: Path, evaluators: str, settings: Sequence[str], **flags: Any) -> None:
    """Evaluate a finished run with other evaluators."""
    chosen = merge(dict.fromkeys(_names(evaluators), {}), options := nested(settings))
    if others := sorted(set(options) - set(_names(evaluators))):
        raise ConfigError(f"--set {others[0]}: expected one of the evaluators that are named, {evaluators}")
    _print([session.evaluate_run(path, chosen, _launch(flags, session.recorded_launch(session.open_run(path))))])


@click.command("compare")
@click.argument("paths", metavar="RUN...", type=_PATH, nargs=-1, required=True)
def compare_command(paths: Sequence[Path]) -> None:
    """One table of several runs."""
    runs = [session.open_run(path) for path in paths]
    if unfinished := [str(run.path) for run in runs if not run.folder.finished]:
        raise ConfigError(f"not finished: {', '.join(unfinished)}; `sslx resume` goes on with a run")
    _print(runs)


@click.command("replay")
@click.argument("path", metavar="RUN", type=_PATH)
def replay_command(path: Path) -> None:
    """Repeat the step at which a run crashed, and say where the first NaN arose."""
    facts = session.replay_run(path)
    for name, value in facts.items():
        click.echo(f"{name}: {value}")


def _launch(flags: dict[str, Any], base: session.Launch | None = None) -> session.Launch:
    base = base or session.Launch()
    given = {name: flags.pop(name) for name in ("device", "devices", "data_dir", "offline")}
    folder = given["data_dir"] or base.data_dir
    return session.Launch(
        device=given["device"] or base.device,
        devices=given["devices"] or base.devices,
        data_dir=folder.expanduser().resolve(),
        offline=given["offline"] or base.offline,
    )


def _names(text: str) -> list[str]:
    """Names with commas between them. Raises ConfigError if one is there twice."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{text}: {twice[0]} is named twice")
    return names


def _flags(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags as a layer of the config."""
    train = {name: flags[name] for name in ("epochs", "batch_size", "lr", "cpu_seconds", "precision") if flags[name]}
    layer: dict[str, Any] = {"train": {name: Text(value) for name, value in train.items()}}
    if flags["compile"]:
        layer["train"]["compile"] = True
    if flags["views"]:
        layer["views"] = {"count": Text(flags["views"])}
    return layer | {name: Text(flags[name]) for name in ("dataset", "loader", "seed", "subset") if flags[name]}


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
        layer: Any = Text(value)
        for name in reversed(key.strip().split(".")):
            layer = {name: layer}
        result = _overlay(result, layer)
    return result


def _overlay(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Unlike `merge`, keep options set before their component was chosen: the order of `--set` is of no matter."""
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, dict) and not isinstance(value, dict):
            value = {"use": value}
        if isinstance(before, str) and isinstance(value, dict):
            before = {"use": before}
        old[name] = _overlay(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return old


def _print(runs: Sequence[session.Run]) -> None:
    if os.environ.get("RANK", "0") == "0":
        report.show(runs)
    if failed := report.failures(runs):
        raise SslxError("\n".join(failed))
