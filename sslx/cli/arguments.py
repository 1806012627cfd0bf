"""What arguments mean that several commands have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sslx.cli.run import nested
from sslx.core.config import overlay
from sslx.core.errors import ConfigError

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
NEW_FOLDER = click.Path(path_type=Path, file_okay=False)
OF_THE_DATASET = "An option of the dataset; dataset.KEY=VALUE is the same. Repeatable."


def untaken(ctx: click.Context, option: click.Parameter, path: Path) -> Path:
    """A callback for what will be written. Raises ConfigError if it is there, an empty folder apart, or cannot be."""
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"{option.opts[0]}: {path} exists, and nothing is overwritten")
    above = next(folder for folder in path.absolute().parents if os.path.exists(folder))
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ConfigError(f"{option.opts[0]}: {path} cannot be written: {above} is no folder that you may write to")
    return path


def sectioned(settings: Sequence[str], own: str, *others: str) -> dict[str, Any]:
    """`--set` as a layer of the config: a key is an option of the section `own` unless it begins with a section."""
    given = nested(settings)
    sections = {name: given.pop(name) for name in (own, *others) if name in given}
    return overlay({own: given}, sections)
