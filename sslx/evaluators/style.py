"""What a representation knows of an image beside its class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from sslx.api import Evaluation, Evaluator, Result, option
from sslx.evaluators.common import finite, fit, network, outputs, standardised


class Style(Evaluator):
    """Each known factor of the images, read from the standardised frozen representation by two probes.

    A factor of floats is a quantity: least squares, and an MLP that minimises the squared error; the score is R² on
    the test set, 1 at best and about 0 for a representation that does not know it. A factor of integers is a class:
    logistic regression, and an MLP; the score is the accuracy. Classes of unequal size have a high one by chance:
    `majority` in the protocol is that of the largest class.

    The MLP has one hidden layer and ends with the weights that are best on a held-out tenth of the training set.

    Scores:
        style-r2: the mean of R² by the MLP over all quantities; style-r2-linear: by least squares.
        style-accuracy, style-accuracy-linear: the same of the classes.
        style-FACTOR, style-FACTOR-linear: of each factor.
    """

    best = 1.0

    hidden: int = option(default=64, gt=0, help="width of the MLP's hidden layer")
    steps: int = option(default=10_000, gt=0, help="most batches; training stops before, where it does not help")
    batch_size: int = option(default=128, gt=0, help="images of a batch")
    lr: float = option(default=3e-3, gt=0, help="learning rate of the MLP")

    def skip(self, evaluation: Evaluation) -> str:
        if not evaluation.train.factors:
            return "the dataset has no known factors"
        return "" if list(_varying(evaluation)) else "the factors do not vary"

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, q = standardised(*finite(evaluation))
        means: dict[str, list[float]] = {}
        scores: dict[str, float] = {}
        facts: dict[str, Any] = {}
        for name, train, test in _varying(evaluation):
            kind = "r2" if train.is_floating_point() else "accuracy"
            probe = self._regress if kind == "r2" else self._classify
            linear, mlp, facts[name] = probe(z, q, train, test, evaluation.seed)
            scores |= {f"style-{name}": mlp, f"style-{name}-linear": linear}
            means.setdefault(f"style-{kind}", []).append(mlp)
            means.setdefault(f"style-{kind}-linear", []).append(linear)
        return Result(
            scores={**{name: sum(values) / len(values) for name, values in means.items()}, **scores},
            protocol={"trained_on": len(z), "tested_on": len(q), "hidden": self.hidden, "factors": facts},
            summary=(
                f"R² of quantities, accuracy of classes, by an MLP of {self.hidden} hidden units stopped on a held-out "
                f"tenth of {len(z)}, and by a linear probe"
            ),
        )

    def _regress(self, z: Tensor, q: Tensor, train: Tensor, test: Tensor, seed: int) -> tuple[float, float, Any]:
        from sklearn.linear_model import LinearRegression
        from sklearn.metrics import r2_score

        train, test = train.float(), test.float()
        mean, scale = train.mean(), train.std(correction=0)
        linear = LinearRegression().fit(z.double().numpy(), train.double().numpy()).predict(q.double().numpy())
        model = network(z.shape[1], self.hidden, 1)
        found = self._fit(model, z, (train - mean)[:, None] / scale, F.mse_loss, seed)
        mlp = outputs(model, q).squeeze(1) * scale + mean
        return float(r2_score(test, linear)), float(r2_score(test, mlp)), {"held_out": found}

    def _classify(self, z: Tensor, q: Tensor, train: Tensor, test: Tensor, seed: int) -> tuple[float, float, Any]:
        from sklearn.linear_model import LogisticRegression

        classes, codes = train.unique(return_inverse=True)
        linear = LogisticRegression(max_iter=1000).fit(z.numpy(), train.numpy()).score(q.numpy(), test.numpy())
        model = network(z.shape[1], self.hidden, len(classes))
        found = self._fit(model, z, codes, F.cross_entropy, seed)
        mlp = classes[outputs(model, q).argmax(dim=1)] == test
        majority = (test == train.mode().values).double().mean().item()
        return float(linear), mlp.double().mean().item(), {"held_out": found, "majority": majority}

    def _fit(self, model: Any, z: Tensor, target: Tensor, loss: Any, seed: int) -> dict[str, float]:
        found = fit(model, z, target, loss, steps=self.steps, batch_size=self.batch_size, lr=self.lr, seed=seed)
        return found._asdict()


def _varying(evaluation: Evaluation) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name and values, of the training and of the test set, of every factor that is not the same for all images."""
    for name, train in evaluation.train.factors.items():
        if len(train.unique()) > 1:
            yield name, train, evaluation.test.factors[name]
