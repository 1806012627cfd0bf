"""`sslx data preview`: look at views."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import click

from sslx.cli.arguments import NEW_FILE, sectioned, untaken

_PATH = click.Path(path_type=Path)


def _free() -> Path:
    names = (f"preview-{i}.png" if i else "preview.png" for i in itertools.count())
    return next(path for path in map(Path, names) if not path.exists())


@click.command("preview")
@click.argument("dataset")
@click.option("--policy", "-p", default="standard", help="Name of a view policy.  [standard]")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the policy; "
              "views.KEY=VALUE is the same, dataset.KEY=VALUE is one of the dataset. Repeatable.")  # fmt: skip
@click.option("--out", "-o", type=NEW_FILE, default=_free, callback=untaken, help="The picture to write.  "
              "[preview.png, or preview-1.png, ...]")  # fmt: skip
@click.option("--images", type=click.IntRange(1), default=6, help="Images to show.  [6]")
@click.option("--seed", type=click.IntRange(0), default=0, help="Chooses images and views.  [0]")
@click.option("--data-dir", type=_PATH, help="Where datasets are.  [$SSLX_DATA, or a folder in your cache]")
@click.option("--offline", is_flag=True, help="Never download anything.")
def preview_command(
    dataset: str,
    policy: str,
    settings: Sequence[str],
    out: Path,
    images: int,
    seed: int,
    data_dir: Path | None,
    offline: bool,
) -> None:
    """Write a picture of images of DATASET and their views.

    Without a policy it shows the standard one as the dataset recommends it.
    """
    from sslx.core.config import merge
    from sslx.core.errors import ConfigError
    from sslx.core.interfaces import Dataset, ViewPolicy
    from sslx.core.options import make
    from sslx.preview import SUFFIXES, preview
    from sslx.session import default_data_dir

    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out: expected a name that ends in {', '.join(SUFFIXES)}, got {out}")
    given, problems = sectioned(settings, "views", "dataset"), list[str]()
    chosen = merge({"dataset": {"use": dataset}}, given)
    source = make(Dataset, chosen["dataset"], "dataset", problems)
    recommended = source.recommended().get("views", {}) if source is not None and policy == "standard" else {}
    views = make(ViewPolicy, merge({"use": policy}, recommended, given["views"]), "views", problems)
    if problems:
        raise ConfigError(problems)
    train, _ = source.load(data_dir or default_data_dir(), offline)
    preview(train, views, out, images, seed)
    click.echo(out)
