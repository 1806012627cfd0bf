"""Dashboards that follow runs, as a plugin like any other: `sslx run --track NAME`."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, hookimpl, tracker


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.trackers"
    yield tracker("tensorboard", f"{here}.tensorboard:TensorBoard", summary="RUN/tensorboard (extra track)")
    yield tracker("trackio", f"{here}.trackio:Trackio", summary="trackio:PROJECT, a local dashboard (extra track)")
