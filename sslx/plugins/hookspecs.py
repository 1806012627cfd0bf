"""The hooks that a plugin can implement. An implementation may take any subset of a hook's arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from sslx.core.training.run import Run
    from sslx.plugins.record import Record

#: Version of the plugin API, which is part of the entry-point group. Plugins for other versions are only reported.
API = 1
GROUP = f"sslx.v{API}"

hookspec = pluggy.HookspecMarker("sslx")
hookimpl = pluggy.HookimplMarker("sslx")


@hookspec
def sslx_components() -> Iterable[Record]:  # type: ignore[empty-body]
    """Yield a record for each component. Called at start-up; must not import torch."""


@hookspec
def sslx_run_start(run: Run) -> None:
    """A run is about to start or continue training."""


@hookspec
def sslx_metrics(run: Run, step: int, metrics: Mapping[str, float]) -> None:
    """The terms of the loss at a step, called once per logging interval and after each evaluation during training."""


@hookspec
def sslx_epoch_end(run: Run, epoch: int) -> None:
    """An epoch was completed."""


@hookspec
def sslx_checkpoint(run: Run, path: Path) -> None:
    """A checkpoint was written to the folder `path`."""


@hookspec
def sslx_evaluated(run: Run, report: Mapping[str, Any]) -> None:
    """The run was evaluated. `report` has the results as results.json has them, of the images that were scored."""


@hookspec
def sslx_run_end(run: Run, error: BaseException | None) -> None:
    """The run ended, was interrupted, or failed with `error`."""
