"""Arguments shared by several commands."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sslx.cli.paths import PATH
from sslx.core.catalogue import catalogue
from sslx.core.console import is_launched
from sslx.core.dotted import merge, nest, parse
from sslx.core.errors import ConfigError
from sslx.core.training.run import Launch

OF_THE_DATASET = "An option of the dataset; dataset.KEY=VALUE means the same. Repeatable."

trust_option = click.option(
    "--trust-code", is_flag=True, help="Execute code files that the run names, such as a method in a file."
)
checkpoint_option = click.option(
    "--checkpoint", type=click.IntRange(0), help="Use the weights of this step's checkpoint.  [the last one]"
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(1), help="Number of runs at once, each in a process of its own.  [1]"
)
launcher_option = click.option("--launcher", metavar="slurm", help="Submit several runs to Slurm, as an array of at "
              "most --jobs tasks at once. Options of sbatch may follow, in quotes: \"slurm --partition=gpu "
              "--time=8:00:00\". With its --wait, the command waits for the results.")  # fmt: skip
data_options = (
    click.option("--offline", is_flag=True, help="Never download anything."),
    click.option("--data-dir", type=PATH, help="Folder of the datasets.  [$SSLX_DATA, or a cache folder]"),
)
machine_options = (*data_options, click.option("--device", help="Device: cpu, cuda, cuda:1, ...  [cuda if available]"))
launch_options = (
    *machine_options,
    click.option("--devices", type=click.IntRange(1), help="Number of processes.  [1]"),
    click.option("--track", help="Trackers, separated by commas: tensorboard, trackio:PROJECT."),
)


def options(decorators: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Several options as one decorator."""

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorate in decorators:
            command = decorate(command)
        return command

    return decorated


def launched(flags: dict[str, Any], base: Launch | None = None) -> Launch:
    """The launch settings that a command's flags give. Settings without a flag are taken from `base`."""
    base = base or Launch()
    given = {name: flags.pop(name, None) for name in ("device", "devices", "data_dir", "offline", "track")}
    folder, trackers = given["data_dir"] or base.data_dir, words(given["track"] or "")
    catalogue().vouch(trackers)
    return Launch(
        device=given["device"] or base.device,
        devices=given["devices"] or base.devices,
        data_dir=folder.expanduser().resolve(),
        offline=given["offline"] or base.offline,
        trackers=tuple(trackers) or base.trackers,
    )


def check_alone(jobs: int | None, launcher: str | None) -> None:
    """Raise ConfigError if a run alone is to be carried out in a way that is for several runs."""
    if (jobs or 1) > 1:
        raise ConfigError("--jobs: one run: nothing to share; --devices divides the batches of a run among processes")
    if launcher is not None:
        raise ConfigError("--launcher: one run: `srun sslx ...` or a script for `sbatch` starts it")


def check_jobs(jobs: int, launch: Launch) -> None:
    """Raise ConfigError if runs cannot be carried out by several jobs."""
    if jobs > 1 and is_launched():
        raise ConfigError("--jobs: expected a process without a launcher, but this is one of several that share a run")
    if jobs > 1 and launch.devices > 1:
        raise ConfigError(f"--jobs: expected one process for each run, got {launch.devices}; --devices 1 makes it one")


def sbatch_options(launcher: str) -> list[str]:
    """The options that follow the name of the launcher. Raises ConfigError if that is not slurm."""
    try:
        name, *given = shlex.split(launcher) or [""]
    except ValueError as error:
        raise ConfigError(f"--launcher {launcher}: {str(error).lower()}") from None
    if is_launched():
        raise ConfigError("--launcher: expected a process without a launcher, but this is one of several")
    if name != "slurm":
        raise ConfigError(f"--launcher {launcher}: expected slurm, the only launcher that sslx starts by itself")
    if stray := [each for each in given if not each.startswith("-")]:
        raise ConfigError(f"--launcher {launcher}: expected options of sbatch, such as --partition=gpu, got {stray[0]}")
    return given


def words(text: str) -> list[str]:
    """Names separated by commas. Raises ConfigError if a name occurs twice."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{text}: {twice[0]} is named twice")
    return names


def sections(settings: Sequence[str], own: str, *others: str) -> dict[str, Any]:
    """Values of `--set` as one table for each section. Keys that do not begin with a section belong to `own`."""
    given = nest(dict(map(parse, settings)))
    named = {name: given.pop(name, {}) for name in (own, *others)}
    return {**named, own: merge({own: given}, {own: named[own]})[own]}


def untaken(ctx: click.Context, option: click.Parameter, path: Path) -> Path:
    """Callback that checks an output path. Raises ConfigError if it exists (unless empty) or cannot be written."""
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"{option.opts[0]}: {path} exists, and nothing is overwritten")
    above = next(folder for folder in path.absolute().parents if os.path.exists(folder))
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ConfigError(f"{option.opts[0]}: {path} cannot be written: {above} is not a folder that you may write to")
    return path
