"""Clusters that a Gaussian mixture finds in the representation, compared with the classes."""

import warnings

import numpy as np
import torch

from sslx.api import Evaluation, Evaluator, Result, Use, option, seed_of
from sslx.evaluators.agreement import SUMMARY, agreement
from sslx.evaluators.common import finite, labels, standardized, without_classes


class Mixture(Evaluator, of=("latent",)):
    """A Gaussian mixture with full covariances and as many components as classes, on the representation of the clean
    training set (scikit-learn). Test images are assigned to their likeliest component.

    It is the latent's by default: a covariance of 512 features has 131,000 numbers, which few datasets determine.

    SimVAE (A.7.5) starts 200 times, its code 20 times. It prints means over batches of 64 test images.

    Scores:
        gmm: accuracy after the optimal one-to-one matching of components to classes, on the full test set.
        gmm-nmi, gmm-ari: normalized mutual information and adjusted Rand index, on the full test set.
        gmm-...-per-64: the mean over batches of 64; gmm-...-per-64-chance: the same for components assigned at random.
    """

    best = 1.0

    restarts: int = option(default=5, gt=0, help="Number of starts from different k-means; the likeliest fit is kept.")
    max_iter: int = option(default=200, gt=0, help="Maximum number of expectation-maximization steps of each start.")
    standardize: bool = option(
        default=True, help="Whether each dimension is scaled to mean 0 and variance 1 in training, before the fit."
    )

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def evaluate(self, evaluation: Evaluation) -> Result:
        import sklearn
        from sklearn.mixture import GaussianMixture

        z, q = finite(evaluation)
        if self.standardize:
            z, q = standardized(z, q)
        train, test = labels(evaluation)
        components, seed = len(train.unique()), seed_of(Use.EVALUATION, evaluation.seed) % 2**32
        fitted, draws, fits = z.double().numpy(), np.random.RandomState(seed), []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `converged` says it, and equal features make no distinct clusters
            for _ in range(self.restarts):  # as `n_init` does, but a stop signal is heard in between
                evaluation.heed()
                fits.append(GaussianMixture(components, max_iter=self.max_iter, random_state=draws).fit(fitted))
            mixture = max(fits, key=lambda fit: fit.lower_bound_)
            clusters = torch.from_numpy(mixture.predict(q.double().numpy()))
        scores = agreement(clusters, test, evaluation.seed)
        raw = "" if self.standardize else " on raw features"
        end = "" if mixture.converged_ else " (not converged)"
        return Result(
            scores={"gmm": scores.pop("matched"), **{f"gmm-{name}": score for name, score in scores.items()}},
            protocol={
                "fitted_on": len(z),
                "tested_on": len(q),
                "components": components,
                "mixture": f"GaussianMixture, full covariance, scikit-learn {sklearn.__version__}",
                "log_likelihood": float(mixture.lower_bound_),
                "converged": bool(mixture.converged_),
            },
            summary=f"{components} components{raw}, best of {self.restarts} starts{end}; {SUMMARY.format(n=len(q))}",
        )
