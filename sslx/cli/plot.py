"""`sslx plot`: pictures of one or several runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import click

from sslx.cli.arguments import launched, machine_options, options, trust_option, untaken, words
from sslx.cli.layout import echo
from sslx.cli.paths import NEW_FILE, PATH, out_option
from sslx.core.errors import ConfigError, nearest
from sslx.core.training.run import Run
from sslx.outputs import plots
from sslx.outputs.plots import Of, Plot
from sslx.runs.drawn import subjects
from sslx.runs.grid import opened

_OF_SCORES = ("axis", "heat", "scatter")
_OF_METHODS: Any = {"planes": plots.planes, "similarity": plots.similarity, "posterior": plots.posterior}
#: The options of each kind, of which those that are needed are True.
_KINDS: dict[str, dict[str, bool]] = {
    "curves": {"record": False},
    "axis": {"x": True, "score": True, "logx": False},
    "heat": {"x": True, "y": True, "score": True},
    "scatter": {"x": True, "y": True},
    "planes": {},
    "similarity": {},
    "posterior": {},
    "images": {"of": False, "count": False},
}


@click.command("plot")
@click.argument("kind", metavar="KIND")
@click.argument("paths", metavar="RUN...", type=PATH, nargs=-1, required=True)
@click.option("--record", metavar="NAMES", help="For curves: names of records in metrics.jsonl, separated by commas, "
              "in which * matches any text.  [loss, its terms, and scores during training]")  # fmt: skip
@click.option("--x", metavar="OPTION", help="For axis and heat: an option as in --set, or method or dataset. For "
              "scatter: a score.")  # fmt: skip
@click.option("--y", metavar="OPTION", help="For heat: the option of the other side. For scatter: another score.")
@click.option("--score", metavar="NAMES", help="For axis and heat: scores, separated by commas, as in `sslx "
              "compare`.")  # fmt: skip
@click.option("--logx", is_flag=True, default=None, help="For axis: use a logarithmic axis.")
@click.option("--of", metavar="WHAT", help=f"For images: {', '.join(get_args(Of))}.  [reconstructions]")
@click.option("--count", type=click.IntRange(1), help="For images: number of columns, or of images with views.  "
              "[8, or 10 classes]")  # fmt: skip
@out_option("out", type=NEW_FILE, multiple=True, help="File to write, .png, .svg or .pdf. Repeatable. The numbers "
              "are written beside the first one as .csv.  [KIND.png]")  # fmt: skip
@trust_option
@options(machine_options)
def plot_command(kind: str, paths: Sequence[Path], out: Sequence[Path], trust_code: bool, **flags: Any) -> None:
    """Draw a plot of runs or grids, and write the numbers that it shows.

    \b
    curves      recorded values over steps, with a panel for each; the mean over seeds with its standard error
    axis        a score over the values of an option
    heat        a score over the values of two options
    scatter     one score over another
    planes      regions of clusters and densities of methods for points
    similarity  cosine similarities of the representations of test images
    posterior   divergence of each latent dimension from N(0, 1)
    images      rows of images of each method: --of reconstructions, samples, conditional or views
    """
    given = {name: flags.pop(name) for name in ("record", "x", "y", "score", "logx", "of", "count")}
    _check(kind, {name for name, value in given.items() if value is not None})
    what = given["of"] or "reconstructions"
    if what not in get_args(Of):
        raise ConfigError(f"--of {what}: is not a kind of images{nearest(what, get_args(Of))}")
    files = out or (Path(f"{kind}.png"),)
    for path in files:
        plots.ending_of(path)
    table = files[0].with_suffix(".csv")
    ctx = click.get_current_context()
    option = next(each for each in ctx.command.params if each.name == "out")
    for path in (*files, table):
        untaken(ctx, option, path)
    runs = opened(paths, trust_code)
    if kind == "curves":
        plot = plots.curves(runs, words(given["record"] or ""))
    elif kind in _OF_SCORES:
        plot = _of_scores(kind, runs, **given)
    else:
        found = subjects(runs, launched(flags, runs[0].launch))
        plot = _OF_METHODS[kind](found) if kind != "images" else plots.images(found, cast(Of, what), given["count"])
    plot.save(*files)
    echo(*files, table)


def _check(kind: str, given: set[str]) -> None:
    """Raise ConfigError if the kind of plot is unknown, does not take an option, or lacks one that it needs."""
    if kind not in _KINDS:
        raise ConfigError(f"{kind}: is not a kind of plots{nearest(kind, _KINDS)}")
    if others := sorted(given - _KINDS[kind].keys()):
        users = [name for name, known in _KINDS.items() if others[0] in known]
        raise ConfigError(f"--{others[0]}: {kind} does not have this option; it is one of {', '.join(users)}")
    if missing := [name for name, needed in _KINDS[kind].items() if needed and name not in given]:
        raise ConfigError(f"{kind}: expected {' and '.join(f'--{name}' for name in missing)}")


def _of_scores(kind: str, runs: Sequence[Run], x: str, y: str, score: str, logx: bool, **others: Any) -> Plot:
    if unfinished := [str(run.path) for run in runs if not run.folder.finished]:
        raise ConfigError(f"not finished: {', '.join(unfinished)}; `sslx resume` continues a run")
    if kind == "scatter":
        return plots.scatter(plots.pairs(runs, x, y), x, y)
    names = words(score)
    label = names[0] if len(names) == 1 else "score"
    if kind == "axis":
        return plots.axis(plots.points(runs, x, names), x, label, bool(logx))
    return plots.heat(plots.points(runs, x, names, y), x, y, label)
