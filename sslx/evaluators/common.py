"""What several evaluators do: check and scale features, and train small networks on them."""

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sslx.api import DataError, Evaluation, Evaluator, Lazy, Parts, Split, Use, option, permutation, pixels

_MOST_HELD_OUT = 5_000  # enough to see when to stop; more only takes time
_EVERY = 250  # steps between tests on the held-out part
_PATIENCE = 6  # tests without improvement after which training stops
_CHUNK = 1024


def without_labels(evaluation: Evaluation) -> str:
    """Why nothing can be compared with labels, or an empty string."""
    halves = {"training": evaluation.train, "test": evaluation.test}
    missing = [name for name, half in halves.items() if half.labels is None]
    if len(missing) == 2:
        return "the dataset has no labels"
    return f"the {missing[0]} set has no labels" if missing else ""


def without_classes(evaluation: Evaluation) -> str:
    """Why no classifier can be trained and tested, or an empty string."""
    if reason := without_labels(evaluation):
        return reason
    if len(labels(evaluation)[0].unique()) < 2:
        return "the training set has fewer than two classes"
    return "" if len(evaluation.test.z) else "the test set is empty"


def labels(evaluation: Evaluation) -> tuple[Tensor, Tensor]:
    """Labels of the training and test set. They exist, or `skip` would have said otherwise."""
    train, test = evaluation.train.labels, evaluation.test.labels
    assert train is not None and test is not None, "skip() says why this cannot be evaluated"
    return train, test


def some(split: Split, n: int, seed: int) -> Tensor:
    """At most n images of a split, chosen at random, as floats (n, C, H, W)."""
    return pixels(split.images[permutation(len(split), Use.EVALUATION, seed)[:n]])


def places(labels: Tensor) -> Tensor:
    """How many of those before it have the same label, (n,): 0 for the first one of each class."""
    _, codes, counts = labels.unique(return_inverse=True, return_counts=True)
    found = torch.empty_like(codes)
    found[codes.argsort(stable=True)] = torch.arange(len(codes)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return found


def draw(labels: Tensor, amount: int | float, seed: int, repeat: int) -> Tensor:
    """Positions of a few training images, drawn at random from each class. Smaller amounts are parts of larger ones.

    Args:
        amount: number of images of each class, an integer, or part of the images of each class, a float. A class has at
            least one image, and all of its images if it has fewer.
        repeat: which of several draws.
    """
    order = permutation(len(labels), Use.EVALUATION, seed, repeat)
    _, codes, counts = labels[order].unique(return_inverse=True, return_counts=True)
    limits = (amount * counts).round().clamp(min=1) if isinstance(amount, float) else counts.clamp(max=amount)
    return order[places(codes) < limits[codes]]


def finite(evaluation: Evaluation, largest: float = math.inf) -> tuple[Tensor, Tensor]:
    """Features of the training and test set. Raises DataError if one is not finite, or beyond `largest`."""
    for name, z in (("train", evaluation.train.z), ("test", evaluation.test.z)):
        found = z.each(_first_beyond, largest) if isinstance(z, Parts) else [_first_beyond(z, None, largest)]
        if bad := [position for position in found if position is not None]:
            beyond = f" or beyond ±{largest:g}" if largest < math.inf else ""
            raise DataError(
                f"the representation of {name} image {min(bad)} is not finite{beyond}. "
                "The method has probably diverged: look at its metrics"
            )
    return evaluation.train.z, evaluation.test.z


def _first_beyond(z: Tensor, places: Tensor | None, largest: float) -> int | None:
    """The place of the first row with a number that is not smaller."""
    for start in range(0, len(z), 1 << 16):  # in pieces, which need little memory beside the features
        bad = ~(z[start : start + (1 << 16)].abs() < largest)  # not a number compares false
        if bad.any():
            row = start + int(bad.any(dim=1).nonzero()[0])
            return row if places is None else int(places[row])
    return None


def standardized(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets, scaled so that each dimension has mean 0 and variance 1 in training; constant ones become 0."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.numpy())
    z, q = (torch.from_numpy(scaler.transform(x.numpy())) for x in (train, test))
    return z, q


class Fit(NamedTuple):
    loss: float  # smallest loss on the held-out part
    step: int  # number of steps after which it was reached


class Trains(Evaluator):
    """An evaluator that trains small networks on frozen features."""

    steps: int = option(default=10_000, gt=0, help="Maximum number of batches; training stops when it no longer helps.")
    batch_size: int = option(default=128, gt=0, help="Number of images in a batch.")
    lr: float = option(default=3e-3, gt=0, help="Learning rate of AdamW.")

    def fit(
        self,
        evaluation: Evaluation,
        model: nn.Module,
        x: Tensor,
        y: Tensor | Lazy,
        loss: Callable[[Any, Tensor], Tensor],
        device: torch.device | None = None,
        weight_decay: float = 0.0,
    ) -> Fit:
        """Minimize the mean `loss(model(x), y)` by AdamW on random batches.

        A tenth of the images is held out. The model ends with the weights that were best on it, and training stops
        when these no longer improve. The seed of the evaluation chooses that tenth; all other random numbers come from
        torch's generator.
        """
        order = permutation(len(x), Use.EVALUATION, evaluation.seed)
        held_out, rest = order.tensor_split([min(math.ceil(len(x) / 10), _MOST_HELD_OUT)])
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=weight_decay, fused=True)

        def loss_at(index: Tensor) -> Tensor:
            return loss(model(x[index].to(device)), y[index].to(device))

        best, weights = Fit(math.inf, 0), dict[str, Any]()
        for step in range(self.steps + 1):
            if step % _EVERY == 0 or step == self.steps:
                evaluation.heed()
                model.eval()
                with torch.no_grad():
                    total = sum(loss_at(index).item() * len(index) for index in held_out.split(_CHUNK))
                model.train()
                found = Fit(total / len(held_out), step)
                if found.loss < best.loss or not weights:
                    best, weights = found, copy.deepcopy(model.state_dict())
                if step == self.steps or step - best.step >= _PATIENCE * _EVERY:
                    break
            optimizer.zero_grad()
            loss_at(rest[torch.randint(len(rest), (self.batch_size,))]).backward()
            optimizer.step()
        model.load_state_dict(weights)
        model.eval()
        return best


def network(features: int, hidden: int, outputs: int) -> nn.Module:
    """A network with one hidden layer."""
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor, device: torch.device | None = None) -> Tensor:
    """The outputs of the model for all x, on the CPU."""
    return torch.cat([model(part.to(device)).cpu() for part in x.split(_CHUNK)])
