"""What a representation contains about an image besides its class."""

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from sslx.api import Evaluation, Result, option
from sslx.evaluators.common import Trains, finite, network, outputs, standardized


class Style(Trains):
    """Each known factor of the images, read from the standardized frozen representation by two probes.

    A factor of floats is a quantity. Its probes are least squares, and an MLP that minimizes the squared error. Its
    score is R² on the test set: 1 is best, and a representation without information has about 0. A factor of integers
    is a class. Its probes are logistic regression and an MLP, and its score is the accuracy. Classes of unequal size
    have a high accuracy by chance: `majority` in the protocol is that of always naming the largest class.

    The MLP has one hidden layer and ends with the weights that are best on a held-out tenth of the training set.

    Scores:
        style-r2, style-r2-linear: the mean R² of all quantities by the MLP, and by least squares.
        style-accuracy, style-accuracy-linear: the mean accuracy of all classes by the MLP, and by logistic regression.
        style-FACTOR, style-FACTOR-linear: the score of each factor.
    """

    best = 1.0

    hidden: int = option(default=64, gt=0, help="Width of the MLP's hidden layer.")

    def skip(self, evaluation: Evaluation) -> str:
        if not evaluation.train.factors:
            return "the dataset has no known factors"
        return "" if list(_varying(evaluation)) else "the factors do not vary"

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, q = standardized(*finite(evaluation))
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
                f"R² of quantities and accuracy of classes by an MLP of {self.hidden} hidden units, trained on "
                f"{len(z)} training images and stopped on a held-out tenth of them; linear: by a linear probe"
            ),
        )

    def _regress(self, z: Tensor, q: Tensor, train: Tensor, test: Tensor, seed: int) -> tuple[float, float, Any]:
        from sklearn.linear_model import LinearRegression
        from sklearn.metrics import r2_score

        train, test = train.float(), test.float()
        mean, scale = train.mean(), train.std(correction=0)
        linear = LinearRegression().fit(z.double().numpy(), train.double().numpy()).predict(q.double().numpy())
        model = network(z.shape[1], self.hidden, 1)
        found = self.fit(model, z, (train - mean)[:, None] / scale, F.mse_loss, seed)
        mlp = outputs(model, q).squeeze(1) * scale + mean
        return float(r2_score(test, linear)), float(r2_score(test, mlp)), {"held_out": found._asdict()}

    def _classify(self, z: Tensor, q: Tensor, train: Tensor, test: Tensor, seed: int) -> tuple[float, float, Any]:
        from sklearn.linear_model import LogisticRegression

        classes, codes = train.unique(return_inverse=True)
        linear = LogisticRegression(max_iter=1000).fit(z.numpy(), train.numpy()).score(q.numpy(), test.numpy())
        model = network(z.shape[1], self.hidden, len(classes))
        found = self.fit(model, z, codes, F.cross_entropy, seed)
        mlp = classes[outputs(model, q).argmax(dim=1)] == test
        majority = (test == train.mode().values).double().mean().item()
        return float(linear), mlp.double().mean().item(), {"held_out": found._asdict(), "majority": majority}


def _varying(evaluation: Evaluation) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, training values and test values of every factor that is not the same for all training images."""
    for name, train in evaluation.train.factors.items():
        if len(train.unique()) > 1:
            yield name, train, evaluation.test.factors[name]
