"""The components that this package provides. Imported at every start of sslx, so it must not import torch."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, hookimpl, method


@hookimpl
def sslx_components() -> Iterator[Record]:
    yield method(
        "simmim",
        "sslx_simmim.components:SimMIM",
        summary="hidden patches are predicted from tokens by one layer",
        paper="arXiv:2111.09886",
    )
