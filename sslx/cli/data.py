"""`sslx data`: datasets apart from runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sslx.cli.arguments import NEW_FILE, OF_THE_DATASET, data_options, options, sections, untaken
from sslx.cli.preview import preview_command


@click.group("data")
def data_command() -> None:
    """Convert datasets, and look at views of them."""


data_command.add_command(preview_command)


@data_command.command("convert")
@click.argument("dataset")
@click.option("--to", "path", type=NEW_FILE, required=True, callback=untaken, help="The .beton file to write.")
@click.option("--storage", type=click.Choice(["raw", "jpeg"]), default="raw", help="How pixels are stored.  [raw]")
@click.option("--quality", type=click.IntRange(1, 100), default=95, help="Quality of JPEG.  [95]")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help=OF_THE_DATASET)
@options(data_options)
def convert_command(
    dataset: str,
    path: Path,
    storage: Any,
    quality: int,
    settings: Sequence[str],
    data_dir: Path | None,
    offline: bool,
) -> None:
    """Write DATASET, both halves, to a .beton file, as FFCV reads it. Needs the extra ffcv.

    `sslx run --dataset beton:x.beton --loader ffcv` trains on it.
    """
    from sslx.core.interfaces import Dataset
    from sslx.core.options import make
    from sslx.core.training.run import default_data_dir
    from sslx.data_loaders import beton

    beton.require()  # before a long download
    chosen = make(Dataset, {"use": dataset, **sections(settings, "dataset")["dataset"]}, "dataset")
    halves = chosen.halves((data_dir or default_data_dir()).expanduser().resolve(), offline)
    beton.write(halves, path, storage, quality)
    click.echo(f"{path}: {len(halves[0])} + {len(halves[1])} images, {path.stat().st_size / 1e6:,.1f} MB")
