"""The components that this package provides. Imported at every start of sslx, so it must not import torch."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, dataset, evaluator, hookimpl


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx_shapes.components"
    yield dataset("shapes", f"{here}:Shapes", summary="a disc, square or diamond of known position and size")
    yield evaluator("mig", f"{here}:MIG", summary="is each known factor in one dimension?", paper="arXiv:1802.04942")
