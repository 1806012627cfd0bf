"""The components that this package provides. Imported at every start of sslx, so it must not import torch."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, hookimpl, method


@hookimpl
def sslx_components() -> Iterator[Record]:
    yield method(
        "tico",
        "sslx_tico.components:TiCo",
        summary="invariance, and contrast with a running covariance",
        paper="arXiv:2206.10698",
    )
