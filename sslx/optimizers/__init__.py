"""The built-in optimizers, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, hookimpl, optimizer


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.optimizers"
    yield optimizer("adam", f"{here}.adam:Adam", summary="Adam", paper="arXiv:1412.6980")
    yield optimizer("adamw", f"{here}.adam:AdamW", summary="Adam with decoupled weight decay", paper="arXiv:1711.05101")
    yield optimizer("sgd", f"{here}.sgd:SGD", summary="gradient descent with momentum")
    yield optimizer(
        "lars", f"{here}.lars:LARS", summary="a rate for each layer, for large batches", paper="arXiv:1708.03888"
    )
