"""Checks of studies."""

from pathlib import Path

from sslx.core.study import Design
from sslx.runs.studies import Reproduction
from sslx.runs.study_page import check_figures
from sslx.testing.components import Subject, check


@check("study")
def every_run_has_a_config(subject: Subject) -> None:
    """At every budget, the options of each row in each block make a complete config, and all figures are known."""
    for budget in _design(subject).budgets:
        study = Reproduction.of(subject.make(), budget, Path("runs"))
        check_figures(study)
        for block, row in study.places():
            if not row.gain and not study.design.missing(block, row):
                study.config(block, row)


@check("study")
def smoke_and_paper_are_budgets(subject: Subject) -> None:
    """There is a budget `smoke`, which tries all of it within a minute, and one with the paper's own settings."""
    assert {"smoke", "paper"} <= _design(subject).budgets.keys()


def _design(subject: Subject) -> Design:
    found: Design = subject.make().design()
    return found
