"""`sslx data preview`: look at views."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sslx.cli.arguments import NEW_FILE, data_options, options, sections, untaken


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
@options(data_options)
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
    from sslx.core.dotted import merge
    from sslx.core.errors import ConfigError, Problems
    from sslx.core.interfaces import Dataset, ViewPolicy
    from sslx.core.options import make
    from sslx.core.training.run import default_data_dir
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
    click.echo(out)
