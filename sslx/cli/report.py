"""`sslx report`: a page that shows a run or a grid."""

from pathlib import Path

import click

from sslx.cli.arguments import untaken
from sslx.cli.layout import echo
from sslx.cli.paths import NEW_FILE, PATH, out_option
from sslx.core.errors import ConfigError
from sslx.core.training.run import Run
from sslx.outputs.report import MAPS, NAME, write, write_grid
from sslx.runs.grid import Grid, is_grid


def _new(ctx: click.Context, option: click.Parameter, file: Path | None) -> Path | None:
    return None if file is None else untaken(ctx, option, file)


@click.command("report")
@click.argument("path", metavar="RUN", type=PATH)
@click.option("--map", "how", type=click.Choice(MAPS), default="pca", help="Map of the test images: principal "
              "components, t-SNE, or UMAP, which needs the extra report.  [pca]")  # fmt: skip
@out_option("file", type=NEW_FILE, callback=_new, help="The page to write.  [report.html in the folder of RUN]")
def report_command(path: Path, how: str, file: Path | None) -> None:
    """Write the page of a run or a grid, which shows its scores, curves and pictures in one file.

    Runs and grids write it by themselves, unless the environment variable SSLX_REPORT is no. This command writes it
    again, from the files of the run alone: no data is loaded and no code that the run names is executed.
    """
    file = file or path / NAME
    try:
        if is_grid(path):
            write_grid(path, list(Grid.open(path).configs), file)
        else:
            write(Run.open(path), file, how)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error
    echo(file)
