"""The built-in optimizers, as a plugin like any other."""

from collections.abc import Iterator

from sslx.api import Record, hookimpl, optimizer


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.optimizers"
    yield optimizer("adam", f"{here}.adam:Adam", "step sizes adapted to each weight", "arXiv:1412.6980")
    yield optimizer("adamw", f"{here}.adam:AdamW", "Adam with decoupled weight decay", "arXiv:1711.05101")
    yield optimizer("sgd", f"{here}.sgd:SGD", "gradient descent with momentum")
    yield optimizer("lars", f"{here}.lars:LARS", "a step size for each layer, for large batches", "arXiv:1708.03888")
