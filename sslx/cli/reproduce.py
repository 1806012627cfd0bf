"""`sslx reproduce`: the tables and figures of papers, each by one command."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sslx.cli.arguments import check_jobs, jobs_option, launch_options, launched, options, words
from sslx.cli.layout import echo
from sslx.cli.paths import PATH, out_option
from sslx.core.console import is_launched, is_main
from sslx.core.errors import ConfigError, SslxError
from sslx.core.options import make
from sslx.core.study import Study
from sslx.core.training.launch import relaunch
from sslx.plugins.registry import registry
from sslx.runs.studies import Reproduction
from sslx.runs.study_page import check_figures, tables_of, write_page


@click.command("reproduce")
@click.argument("name", metavar="list | show | STUDY")
@click.argument("study", required=False)
@click.option("--budget", "-b", default="cpu", help="How much a run may cost: smoke, cpu, gpu or paper.  [cpu]")
@click.option("--only", help="Rows to fill, separated by commas.  [all]")
@click.option("--runs", "folder", type=PATH, default=Path("runs/studies"), help="Folder of the runs, which studies "
              "share.  [runs/studies]")  # fmt: skip
@out_option("out", type=PATH, help="Folder of the page.  [the study and the budget, beside the runs]")
@jobs_option
@options(launch_options)
def reproduce_command(
    name: str,
    study: str | None,
    budget: str,
    only: str | None,
    folder: Path,
    out: Path | None,
    jobs: int | None,
    **flags: Any,
) -> None:
    """Carry out a table or a figure of a paper, and write a page with our numbers beside the paper's.

    `list` names all studies with their state, `show STUDY` says what one of them runs and costs. STUDY is a name or a
    TOML file. The same command again continues after any interruption; finished runs are not repeated. It may be
    started several times at once: each run is carried out by one of the processes.
    """
    launch = launched(flags)
    check_jobs(jobs or 1, launch)
    if name == "list":
        if study is not None:
            raise ConfigError("list takes no name; `sslx reproduce show STUDY` shows one study")
        _list(folder, launch)
        return
    if name == "show" and study is None:
        raise ConfigError("show: expected the name of a study, such as `sslx reproduce show gedi-table-2`")
    found = Reproduction.of(study if name == "show" and study else name, budget, folder, launch, words(only or ""))
    if name == "show":
        _show(found)
        return
    if study is not None:
        raise ConfigError(f"expected one study, got {name} and {study}")
    check_figures(found)
    if not is_launched():  # one process alone cannot try a step, in which all of them gather
        _costs(found)
        if launch.devices > 1:
            sys.exit(relaunch(launch.devices))
    failed: Sequence[str] = ()
    try:
        failed = found.carry_out(jobs or 1)
    finally:
        if is_main():
            pages = write_page(found, out or folder / f"{found.name}-{budget}")
            echo("", *tables_of(found).split("\n"), "", *pages)
    if failed:
        raise SslxError(f"{len(failed)} of the runs failed:\n" + "\n".join(failed))


def _list(folder: Path, launch: Any) -> None:
    rows = []
    for name, providers in registry().providers("study").items():
        if providers[0].record.reads:
            continue
        design = make(Study, name, "study").design()
        states: dict[str, int] = {}
        for block in design.blocks:
            for row in design.rows:
                reason = design.missing(block, row)
                data = None if reason else design.data(block, row, [*design.budgets][-1], launch.data_dir)
                state = "ready" if data is None or data.exists() else f"without data: {data.name}"
                state = f"not possible: {reason}" if reason else state
                states[state] = states.get(state, 0) + len(design.columns)
        said = "; ".join(f"{count} {'cell' if count == 1 else 'cells'} {state}" for state, count in states.items())
        rows.append((name, design.paper, said))
    width = max(len(name) for name, *_ in rows)
    for name, paper, said in rows:
        echo(f"{name:{width}}  {paper}: {said}")


def _show(found: Reproduction) -> None:
    design = found.design
    echo(f"{found.name}: {design.title}", f"{design.paper}. {design.shows}", "")
    for name, budget in design.budgets.items():
        echo(f"budget {name}: {budget.seeds or design.seeds} seeds. {budget.says}")
    echo("")
    _costs(found)
    for task in found.tasks:
        done = "finished" if (found.folder / task.name / "results.json").exists() else "to do"
        echo(f"{task.name}  {task.row.name} of {task.block.name}, seed {task.config.seed}: {done}")
    for block, row in found.places():
        if reason := found.absent(block, row):
            echo(f"not run: {row.name} of {block.name}: {reason}")


def _costs(found: Reproduction) -> None:
    costs = [(flops, seconds) for _, flops, seconds in found.cost()]
    flops, seconds = (sum(each) for each in zip(*costs, strict=True)) if costs else (0.0, 0.0)
    echo(
        f"{found.name}, budget {found.budget}: {len(costs)} of {len(found.tasks)} runs to train, {flops:.2g} FLOPs, "
        f"about {_duration(seconds)} of training on this device by one step of each; evaluation comes in addition"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
