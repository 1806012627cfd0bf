"""What this package provides to sslx. Imported at every start of sslx: it must stay light, and not import torch."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, hookimpl, prior


@hookimpl
def sslx_components() -> Iterator[Record]:
    yield prior(
        "von-mises-fisher",
        "sslx_von_mises_fisher.components:VonMisesFisher",
        summary="views share a direction, not a place",
    )
