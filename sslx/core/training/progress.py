"""Progress of training: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TextColumn
from rich.table import Column
from typing_extensions import Self

from sslx.core.console import say

_SECONDS_BETWEEN_LINES = 5.0


def _pause(elapsed: float) -> float:
    """Seconds between two lines: rarer the longer it takes, so that a log stays readable."""
    return max(_SECONDS_BETWEEN_LINES, elapsed / 20)


class Meter:
    """Says on standard error how much of something is done, if it takes longer than a few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.began = what, total, time.monotonic()
        self.printed = self.began

    def advance(self, done: int) -> None:
        now = time.monotonic()
        if now - self.printed >= _pause(now - self.began):
            self.printed = now
            left = (self.total - done) * (now - self.began) / done
            say(f"{self.what}: {done:,} of {self.total:,}, {left:.0f} s left")


def numbers(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


class Progress:
    """Terms of the loss, `scores` of the last evaluation, views per second and time left, on standard error."""

    def __init__(self, total: int, step: int, epochs: int, enabled: bool = True) -> None:
        self.total, self.before, self.first, self.epochs = total, step, step, epochs
        self.enabled = enabled and total > step
        self.views, self.metrics, self.scores, self.spent = 0, "", "", 0.0
        self.began = self.start = self.printed = time.monotonic()
        self.bar: Bar | None = None
        if self.enabled and sys.stderr.isatty():
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # a narrow terminal shows the first terms
            columns = (
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[rate]:,.0f} views/s  {task.fields[left]:.0f} s left"),
                TextColumn("{task.fields[metrics]}", table_column=rest),
            )
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True, expand=True)
            self.task = self.bar.add_task("", total=total, completed=step, epoch="", metrics="", rate=0.0, left=0.0)

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, step: int, views: int, metrics: Mapping[str, float] | None = None, spent: float = 0.0) -> None:
        """Report that `step` updates are done, the last one on `views` views.

        Args:
            metrics: the record of this step, at the logging interval.
            spent: share of the budget of processor time that is used, 0 if there is no budget.
        """
        if not self.enabled:
            return
        if metrics is not None:
            self.metrics = numbers(metrics)
        shown = f"{self.metrics}  {self.scores}".rstrip()
        now = time.monotonic()
        if step == self.before + 1 and step < self.total:  # the first step compiles and imports, so it is not counted
            self.first, self.start, self.spent = step, now, spent
            return
        self.views += views
        rate = self.views / max(now - self.start, 1e-9)
        left = (self.total - step) * (now - self.start) / max(step - self.first, 1)
        if spent > self.spent:
            left = min(left, (1 - spent) * (now - self.start) / (spent - self.spent))
        epoch = f"{-(-step * self.epochs // self.total)}/{self.epochs}"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, epoch=epoch, metrics=shown, rate=rate, left=left)
        elif now - self.printed >= _pause(now - self.began) or step == self.total:
            self.printed = now
            text = f"epoch {epoch}  step {step}/{self.total}  {shown}  {rate:,.0f} views/s  {left:.0f} s left"
            print(text, file=sys.stderr, flush=True)
