"""Trackers, which show runs in dashboards: `sslx run --track NAME`. They are a plugin themselves."""

from collections.abc import Iterator

from sslx.api import Record, hookimpl, tracker


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.trackers"
    yield tracker(
        "tensorboard", f"{here}.tensorboard:TensorBoard", summary="TensorBoard, in RUN/tensorboard (extra track)"
    )
    yield tracker(
        "trackio",
        f"{here}.trackio:Trackio",
        summary="Trackio, a local dashboard: --track trackio:PROJECT (extra track)",
    )
