"""Progress of training: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TextColumn, TimeRemainingColumn
from typing_extensions import Self

_SECONDS_BETWEEN_LINES = 5.0


def numbers(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


class Progress:
    """Terms of the loss, views per second and time left, on standard error."""

    def __init__(self, total: int, step: int, epochs: int, enabled: bool = True) -> None:
        self.total, self.before, self.first, self.epochs = total, step, step, epochs
        self.enabled = enabled and total > step
        self.views, self.metrics, self.start = 0, "", time.monotonic()
        self.printed = self.start
        self.bar: Bar | None = None
        if self.enabled and sys.stderr.isatty():
            columns = (
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[metrics]}  {task.fields[rate]:,.0f} views/s"),
                TimeRemainingColumn(compact=True),
            )
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("", total=total, completed=step, epoch="", metrics="", rate=0.0)

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, step: int, views: int, metrics: Mapping[str, float] | None = None) -> None:
        """Report that `step` updates are done, the last one on `views` views; `metrics` at the logging interval."""
        if not self.enabled:
            return
        if metrics is not None:
            self.metrics = numbers(metrics)
        now = time.monotonic()
        if step == self.before + 1 and step < self.total:  # the first step compiles and imports, so it is not counted
            self.first, self.start = step, now
            return
        self.views += views
        rate = self.views / max(now - self.start, 1e-9)
        epoch = f"{-(-step * self.epochs // self.total)}/{self.epochs}"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, epoch=epoch, metrics=self.metrics, rate=rate)
        elif now - self.printed >= _SECONDS_BETWEEN_LINES or step == self.total:
            self.printed = now
            left = (self.total - step) * (now - self.start) / (step - self.first)
            text = f"epoch {epoch}  step {step}/{self.total}  {self.metrics}  {rate:,.0f} views/s  {left:.0f} s left"
            print(text, file=sys.stderr, flush=True)
