"""The linear probe: can a hyperplane tell the classes apart?"""

from __future__ import annotations

import warnings

from sslx.api import DataError, Evaluation, Evaluator, Result, option


class Linear(Evaluator):
    """Logistic regression on the standardised representation of the full clean training set (scikit-learn, lbfgs).

    The problem is convex: the score depends on no learning rate, order or seed, and no test accuracy stops the fit.

    Scores:
        linear: test accuracy. A test label that the training set lacks counts as an error.
    """

    c: float = option(default=1.0, gt=0, help="inverse strength of the L2 penalty, as in scikit-learn")
    max_iter: int = option(default=1000, gt=0, help="most iterations of lbfgs")

    def skip(self, evaluation: Evaluation) -> str:
        train, test = evaluation.train, evaluation.test
        if train.labels is None or test.labels is None:
            return "the dataset has no labels"
        if len(train.labels.unique()) < 2:
            return "the training set has fewer than two classes"
        return "" if len(test.z) else "the test set is empty"

    def evaluate(self, evaluation: Evaluation) -> Result:
        import sklearn  # here, because it takes a second that not every command need wait for
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        train, test = evaluation.train, evaluation.test
        assert train.labels is not None and test.labels is not None, "skip() says why this cannot be evaluated"
        for name, z in (("train", train.z), ("test", test.z)):
            if not z.isfinite().all():
                image = int((~z.isfinite()).any(dim=1).nonzero()[0])
                raise DataError(
                    f"linear: the representation of {name} image {image} is not finite. "
                    "The method has probably diverged: look at its metrics"
                )

        regression = LogisticRegression(C=self.c, max_iter=self.max_iter, solver="lbfgs")
        probe = make_pipeline(StandardScaler(), regression)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            probe.fit(train.z.numpy(), train.labels.numpy())
            accuracy = probe.score(test.z.numpy(), test.labels.numpy())
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        return Result(
            scores={"linear": float(accuracy)},
            protocol={
                "trained_on": len(train.z),
                "tested_on": len(test.z),
                "dimensions": train.z.shape[1],
                "classes": len(regression.classes_),
                "probe": f"StandardScaler, LogisticRegression (lbfgs, L2 penalty), scikit-learn {sklearn.__version__}",
                "c": self.c,
                "tolerance": regression.tol,
                "max_iter": self.max_iter,
                "iterations": int(regression.n_iter_[0]),
                "converged": converged,
                "warnings": [str(warning.message) for warning in caught],
            },
            summary=f"logistic regression on {len(train.z)}, C={self.c:g}" + ("" if converged else ", not converged"),
        )
