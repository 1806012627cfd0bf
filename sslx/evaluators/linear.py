"""The linear probe, which tells the classes apart by hyperplanes."""

import warnings

from sslx.api import Evaluation, Evaluator, Result, option
from sslx.evaluators.common import finite, labels, standardized, without_classes


class Linear(Evaluator):
    """Logistic regression on the standardized representation of the full clean training set (scikit-learn, lbfgs).

    The problem is convex: the score does not depend on a learning rate, an order or a seed.

    Scores:
        linear: test accuracy. A test label that the training set lacks counts as an error.
    """

    best = 1.0

    c: float = option(default=1.0, gt=0, help="Inverse strength of the L2 penalty, as in scikit-learn.")
    max_iter: int = option(default=1000, gt=0, help="Maximum number of iterations of lbfgs.")

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def evaluate(self, evaluation: Evaluation) -> Result:
        import sklearn  # here, because it takes a second, and not every command needs it
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        z, q = standardized(*finite(evaluation))
        train, test = labels(evaluation)
        regression = LogisticRegression(C=self.c, max_iter=self.max_iter, solver="lbfgs")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            regression.fit(z.numpy(), train.numpy())
            accuracy = regression.score(q.numpy(), test.numpy())
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        return Result(
            scores={"linear": float(accuracy)},
            protocol={
                "trained_on": len(z),
                "tested_on": len(q),
                "dimensions": z.shape[1],
                "classes": len(regression.classes_),
                "probe": f"StandardScaler, LogisticRegression (lbfgs, L2 penalty), scikit-learn {sklearn.__version__}",
                "c": self.c,
                "tolerance": regression.tol,
                "max_iter": self.max_iter,
                "iterations": int(regression.n_iter_[0]),
                "converged": converged,
                "warnings": [str(warning.message) for warning in caught],
            },
            summary=f"logistic regression on {len(z)} training images with C={self.c:g}"
            + ("" if converged else " (not converged)"),
        )
