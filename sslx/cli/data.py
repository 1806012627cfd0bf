"""`sslx data`: converts datasets and makes pictures of their views."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sslx.cli.arguments import OF_THE_DATASET, data_options, options, sections, untaken
from sslx.cli.layout import echo
from sslx.cli.paths import NEW_FILE, out_option
from sslx.core.dotted import merge
from sslx.core.errors import ConfigError, Problems
from sslx.core.interfaces import Dataset, ViewPolicy
from sslx.core.options import make
from sslx.core.training.run import default_data_dir


@click.group("data")
def data_command() -> None:
    """Convert datasets, and make pictures of their views."""


@data_command.command("convert")
@click.argument("dataset")
@out_option("path", type=NEW_FILE, required=True, callback=untaken, help="The .beton file to write.")
@click.option("--storage", type=click.Choice(["raw", "jpeg"]), default="raw", help="Storage of the pixels.  [raw]")
@click.option("--quality", type=click.IntRange(1, 100), default=95, help="Quality of JPEG storage.  [95]")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help=OF_THE_DATASET)
@options(data_options)
def convert_command(
    dataset: str, path: Path, storage: Any, quality: int, settings: Sequence[str], data_dir: Path | None, offline: bool
) -> None:
    """Write both splits of DATASET to a .beton file, the format of FFCV. Needs the extra ffcv.

    `sslx run --dataset beton:x.beton --loader ffcv` trains on it.
    """
    from sslx.data_loaders import beton

    beton.require()  # before a long download
    chosen = make(Dataset, {"use": dataset, **sections(settings, "dataset")["dataset"]}, "dataset")
    halves = chosen.halves((data_dir or default_data_dir()).expanduser().resolve(), offline)
    beton.write(halves, path, storage, quality)
    echo(f"{path}: {len(halves[0])} + {len(halves[1])} images, {path.stat().st_size / 1e6:,.1f} MB")


def _free() -> Path:
    """The first of preview.png, preview-1.png, ... that does not exist."""
    names = (f"preview-{i}.png" if i else "preview.png" for i in itertools.count())
    return next(path for path in map(Path, names) if not path.exists())


@data_command.command("preview")
@click.argument("dataset")
@click.option("--policy", "-p", default="standard", help="Name of a view policy.  [standard]")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the policy; "
              "views.KEY=VALUE means the same, dataset.KEY=VALUE is an option of the dataset. Repeatable.")  # fmt: skip
@click.option("--out", "-o", type=NEW_FILE, default=_free, callback=untaken, help="The picture to write.  "
              "[preview.png, or preview-1.png, ...]")  # fmt: skip
@click.option("--images", type=click.IntRange(1), default=6, help="Number of images to show.  [6]")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed that chooses images and views.  [0]")
@options(data_options)
def preview_command(
    dataset: str, policy: str, settings: Sequence[str], out: Path, images: int, seed: int, data_dir: Path | None,
    offline: bool,
) -> None:  # fmt: skip
    """Write a picture of images of DATASET and their views.

    The standard policy has the options that the dataset recommends.
    """
    from sslx.outputs.preview import SUFFIXES, preview

    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out: expected a name that ends in {', '.join(SUFFIXES)}, got {out}")
    given, problems, recommended = sections(settings, "views", "dataset"), Problems(), dict[str, Any]()
    with problems.collecting():
        source = make(Dataset, merge({"use": dataset}, given["dataset"]), "dataset")
        recommended = source.recommended().get("views", {}) if policy == "standard" else {}
    with problems.collecting():
        views = make(ViewPolicy, merge({"use": policy}, recommended, given["views"]), "views")
    problems.check()
    train, _ = source.halves(data_dir or default_data_dir(), offline)
    preview(train, views, out, images, seed)
    echo(out)
