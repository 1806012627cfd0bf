"""What a representation contains about an image besides its class."""

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from sslx.api import Evaluation, Result, option
from sslx.evaluators import logistic
from sslx.evaluators.common import Trains, finite, network, outputs, standardized


class Style(Trains):
    """Each known factor of the images, read from the standardized frozen representation by two probes.

    A factor of floats is a quantity. Its probes are least squares, and an MLP that minimizes the squared error. Its
    score is R² on the test set: 1 is best, and a representation without information has about 0. A factor of integers
    is a class. Its probes are logistic regression and an MLP, and its score is the accuracy. Classes of unequal size
    have a high accuracy by chance: `majority` in the protocol is that of always naming the largest class.

    The content of an image is its label. It is read as a quantity as well, with one number for each class that is 1 for
    the class of the image, so that style and content have scores of the same kind.

    The MLP has one hidden layer and ends with the weights that are best on a held-out tenth of the training set.

    SimVAE scores 20 of CelebA's 40 attributes, without those of large imbalance, and does not say which. With
    `largest=0.84` it is the 20 most balanced ones.

    Scores:
        style-r2, style-r2-linear: the mean R² of all quantities by the MLP, and by least squares.
        style-accuracy, style-accuracy-linear: the mean accuracy of all classes by the MLP, and by logistic regression.
        style-FACTOR, style-FACTOR-linear: the score of each factor.
        style-content-r2, style-content-r2-linear: R² of the label, if there is one.
    """

    best = 1.0

    hidden: int = option(default=64, gt=0, help="Width of the MLP's hidden layer.")
    largest: float = option(
        default=1.0, gt=0, le=1, help="Largest part of the training images with one value; other classes are left out."
    )

    def skip(self, evaluation: Evaluation) -> str:
        if not evaluation.train.factors:
            return "the dataset has no known factors"
        return "" if list(self._varying(evaluation)) else "no factor varies enough"

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, q = standardized(*finite(evaluation))
        means: dict[str, list[float]] = {}
        scores: dict[str, float] = {}
        facts: dict[str, Any] = {}
        for name, train, test in self._varying(evaluation):
            kind = "r2" if train.is_floating_point() else "accuracy"
            probe = self._regress if kind == "r2" else self._classify
            linear, mlp, facts[name] = probe(evaluation, z, q, train, test)
            scores |= {f"style-{name}": mlp, f"style-{name}-linear": linear}
            means.setdefault(f"style-{kind}", []).append(mlp)
            means.setdefault(f"style-{kind}-linear", []).append(linear)
        if (content := _content(evaluation)) is not None:
            linear, mlp, facts["content"] = self._regress(evaluation, z, q, *content)
            scores |= {"style-content-r2": mlp, "style-content-r2-linear": linear}
        return Result(
            scores={**{name: sum(values) / len(values) for name, values in means.items()}, **scores},
            protocol={"trained_on": len(z), "tested_on": len(q), "hidden": self.hidden, "factors": facts},
            summary=(
                f"R² of quantities and accuracy of classes by an MLP of {self.hidden} hidden units, trained on "
                f"{len(z)} training images and stopped on a held-out tenth of them; linear: by a linear probe"
            ),
        )

    def _regress(
        self, evaluation: Evaluation, z: Tensor, q: Tensor, train: Tensor, test: Tensor
    ) -> tuple[float, float, Any]:
        from sklearn.linear_model import LinearRegression
        from sklearn.metrics import r2_score

        train, test = (y.float().reshape(len(y), -1) for y in (train, test))  # one column, or one for each class
        mean, scale = train.mean(dim=0), train.std(dim=0, correction=0)
        linear = LinearRegression().fit(z.double().numpy(), train.double().numpy()).predict(q.double().numpy())
        model = network(z.shape[1], self.hidden, train.shape[1])
        found = self.fit(evaluation, model, z, (train - mean) / scale, F.mse_loss)
        mlp = outputs(model, q) * scale + mean
        r2 = [float(r2_score(test, predicted, multioutput="variance_weighted")) for predicted in (linear, mlp)]
        return r2[0], r2[1], {"held_out": found._asdict()}

    def _classify(
        self, evaluation: Evaluation, z: Tensor, q: Tensor, train: Tensor, test: Tensor
    ) -> tuple[float, float, Any]:
        classes, codes = train.unique(return_inverse=True)
        weights = logistic.fit(z, codes, len(classes), c=1.0).weights
        linear = classes[logistic.predict(weights, q, len(classes))] == test
        model = network(z.shape[1], self.hidden, len(classes))
        found = self.fit(evaluation, model, z, codes, F.cross_entropy)
        mlp = classes[outputs(model, q).argmax(dim=1)] == test
        majority = (test == train.mode().values).double().mean().item()
        scores = linear.double().mean().item(), mlp.double().mean().item()
        return *scores, {"held_out": found._asdict(), "majority": majority}

    def _varying(self, evaluation: Evaluation) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, training values and test values of every factor that varies enough in the training set."""
        for name, train in evaluation.train.factors.items():
            counts = train.unique(return_counts=True)[1]
            balanced = train.is_floating_point() or counts.max() <= self.largest * len(train)
            if len(counts) > 1 and balanced:
                yield name, train, evaluation.test.factors[name]


def _content(evaluation: Evaluation) -> tuple[Tensor, Tensor] | None:
    """Labels of the training and the test set with a column for each class, (n, K); None if there are none."""
    train, test = evaluation.train.labels, evaluation.test.labels
    if train is None or test is None or len(classes := train.unique()) < 2:
        return None
    return (train[:, None] == classes).float(), (test[:, None] == classes).float()
