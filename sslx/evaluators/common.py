"""What several evaluators ask of the features, and how they train small networks on them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sslx.api import DataError, Evaluation, Lazy, Use, permutation

_MOST_HELD_OUT = 5_000  # enough to see when to stop; more only takes time
_EVERY = 250  # steps between looks at the held-out part
_PATIENCE = 6  # looks without improvement before training stops
_CHUNK = 1024


def without_labels(evaluation: Evaluation) -> str:
    """Why nothing can be compared with labels, or an empty string."""
    unlabelled = evaluation.train.labels is None or evaluation.test.labels is None
    return "the dataset has no labels" if unlabelled else ""


def without_classes(evaluation: Evaluation) -> str:
    """Why no classifier can be trained and tested, or an empty string."""
    if reason := without_labels(evaluation):
        return reason
    assert evaluation.train.labels is not None
    if len(evaluation.train.labels.unique()) < 2:
        return "the training set has fewer than two classes"
    return "" if len(evaluation.test.z) else "the test set is empty"


def labels(evaluation: Evaluation) -> tuple[Tensor, Tensor]:
    """Labels of the training and of the test set, which skip() has found to be there."""
    train, test = evaluation.train.labels, evaluation.test.labels
    assert train is not None and test is not None, "skip() says why this cannot be evaluated"
    return train, test


def finite(evaluation: Evaluation, largest: float = math.inf) -> tuple[Tensor, Tensor]:
    """Features of the training and of the test set. Raises DataError if one is not finite, or beyond `largest`."""
    for name, z in (("train", evaluation.train.z), ("test", evaluation.test.z)):
        bad = ~(z.abs() < largest)  # not a number compares false
        if bad.any():
            beyond = f" or beyond ±{largest:g}" if largest < math.inf else ""
            raise DataError(
                f"the representation of {name} image {int(bad.any(dim=1).nonzero()[0])} is not finite{beyond}. "
                "The method has probably diverged: look at its metrics"
            )
    return evaluation.train.z, evaluation.test.z


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the training set's mean and variance made 0 and 1, dimension by dimension; constant ones become 0."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.numpy())
    z, q = (torch.from_numpy(scaler.transform(x.numpy())) for x in (train, test))
    return z, q


class Fit(NamedTuple):
    loss: float  # the smallest on the held-out part
    step: int  # after which it was reached


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor | Lazy,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    batch_size: int,
    lr: float,
    weight_decay: float = 0.0,
    seed: int,
    device: torch.device | None = None,
) -> Fit:
    """Minimise the mean `loss(model(x), y)` by AdamW on batches drawn at random.

    A tenth of the images is held out. The model ends with the weights that were best on it, and training stops once
    they do not improve any more. All random numbers but the choice of that tenth are torch's.
    """
    order = permutation(len(x), Use.EVALUATION, seed)
    held_out, rest = order.tensor_split([min(math.ceil(len(x) / 10), _MOST_HELD_OUT)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    best, weights = Fit(math.inf, 0), dict[str, Any]()
    for step in range(steps + 1):
        if step % _EVERY == 0 or step == steps:
            found = Fit(_mean(model, x, y, held_out, loss, device), step)
            if found.loss < best.loss or not weights:
                best, weights = found, copy.deepcopy(model.state_dict())
            if step == steps or step - best.step >= _PATIENCE * _EVERY:
                break
        index = rest[torch.randint(len(rest), (batch_size,))]
        optimizer.zero_grad()
        loss(model(x[index].to(device)), y[index].to(device)).backward()
        optimizer.step()
    model.load_state_dict(weights)
    model.eval()
    return best


@torch.no_grad()
def _mean(
    model: nn.Module,
    x: Tensor,
    y: Tensor | Lazy,
    chosen: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    device: torch.device | None,
) -> float:
    """The loss on the chosen ones, in evaluation mode."""
    model.eval()
    total = 0.0
    for index in chosen.split(_CHUNK):
        total += loss(model(x[index].to(device)), y[index].to(device)).item() * len(index)
    model.train()
    return total / len(chosen)


def network(features: int, hidden: int, outputs: int) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor, device: torch.device | None = None) -> Tensor:
    """What the model makes of all x, on the CPU."""
    return torch.cat([model(part.to(device)).cpu() for part in x.split(_CHUNK)])
