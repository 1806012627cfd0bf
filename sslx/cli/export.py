"""`sslx export` and `sslx embed`: the network of a run, and its representations, for other software."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sslx.cli.arguments import (
    OF_THE_DATASET,
    checkpoint_option,
    launched,
    machine_options,
    options,
    sections,
    trust_option,
    untaken,
    words,
)
from sslx.cli.layout import echo
from sslx.cli.paths import NEW_FILE, NEW_FOLDER, PATH, Renamed, out_option
from sslx.core.catalogue import catalogue
from sslx.core.console import say
from sslx.core.errors import ConfigError, nearest
from sslx.core.training.checkpoint import manifest
from sslx.core.training.run import Run
from sslx.outputs.embedding import embed
from sslx.outputs.export import FORMATS, export
from sslx.runs.session import open_run


@click.command("export")
@click.argument("path", metavar="RUN", type=PATH)
@out_option("folder", type=NEW_FOLDER, required=True, callback=untaken, help="The folder to write.")
@click.option(
    "--format",
    "formats",
    default="safetensors",
    help=f"Formats, separated by commas: {', '.join(FORMATS)}.  [safetensors]",
)
@checkpoint_option
@trust_option
def export_command(path: Path, folder: Path, formats: str, checkpoint: int | None, trust_code: bool) -> None:
    """Write the trained network for other software, and check that the result is the same there.

    \b
    safetensors   model.safetensors and config.json, which timm.create_model("local-dir:DIR", pretrained=True) reads
                  if timm has such a network: timm:NAME, and resnet18 to resnet50 with the stem imagenet
    onnx          model.onnx, from images (n, C, H, W) in [0, 1] to their representations; needs the extra export
    torch         model.pt2, the same function for torch.export.load
    """
    chosen = words(formats)
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise ConfigError(f"--format: there is no {unknown[0]!r}{nearest(unknown[0], FORMATS)}")
    run = _opened(path, checkpoint, trust_code)
    for line in export(run.method(), run.image_shape, folder, chosen):
        echo(line)


@click.command("embed")
@click.argument("path", metavar="RUN", type=PATH)
@click.option("--dataset", "-d", cls=Renamed, older="--data", help="Dataset whose images are represented, such as "
              "folder:PATH.  [the dataset of the run]")  # fmt: skip
@out_option("file", type=NEW_FILE, required=True, callback=untaken, help="The file to write, .npz or .parquet.")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help=OF_THE_DATASET)
@checkpoint_option
@trust_option
@options(machine_options)
def embed_command(
    path: Path,
    dataset: str | None,
    file: Path,
    settings: Sequence[str],
    checkpoint: int | None,
    trust_code: bool,
    **flags: Any,
) -> None:
    """Write the representations of images, with their labels and the paths of their files.

    Images are resized and converted to grey as in the run, if the dataset has options for this.
    """
    run = _opened(path, checkpoint, trust_code)
    launch = launched(flags, run.launch)
    if dataset is not None:
        catalogue().vouch([dataset])
    embedded = embed(run, dataset, sections(settings, "dataset")["dataset"], launch, file)
    echo(f"{file}: {len(embedded)} images, {embedded.shape[1]} dimensions")


def _opened(path: Path, checkpoint: int | None, trust_code: bool) -> Run:
    """The run at a path, with a message if it is not finished."""
    run = open_run(path, checkpoint=checkpoint, trust_code=trust_code)
    if not run.folder.finished:
        say(f"{path}: not finished, at step {manifest(run.trained())['step']}")
    return run
