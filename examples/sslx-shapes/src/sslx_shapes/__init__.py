"""What this package provides to sslx. Imported at every start of sslx: it must stay light, and not import torch."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, dataset, evaluator, hookimpl


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx_shapes.components"
    yield dataset("shapes", f"{here}:Shapes", summary="a disc, square or diamond, of known place and size")
    yield evaluator("mig", f"{here}:MIG", summary="is each factor in a dimension of its own?", paper="arXiv:1802.04942")
