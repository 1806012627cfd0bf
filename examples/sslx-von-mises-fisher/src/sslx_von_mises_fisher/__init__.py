"""The components that this package provides. Imported at every start of sslx, so it must not import torch."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, hookimpl, prior


@hookimpl
def sslx_components() -> Iterator[Record]:
    yield prior(
        "von-mises-fisher",
        "sslx_von_mises_fisher.components:VonMisesFisher",
        summary="latents of related views share a direction, not a position",
    )
