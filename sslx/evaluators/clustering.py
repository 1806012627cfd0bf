"""Clusters against classes: as a Gaussian mixture finds them in the representation, or as the method itself says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sslx.api import Clusters, DataError, Evaluation, Evaluator, Result, Use, can, option, permutation, seed_of
from sslx.evaluators.common import finite, labels, standardised, without_classes, without_labels

_BATCH = 64  # of SimVAE's and GEDI's tables


def matched(clusters: Tensor, classes: Tensor) -> float:
    """Accuracy after the one-to-one matching of clusters to classes that makes it largest (n,), (n,)."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(classes.numpy(), clusters.numpy())
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(clusters))


def measures() -> Mapping[str, Callable[[Tensor, Tensor], float]]:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "matched": matched,
        "nmi": lambda clusters, classes: float(normalized_mutual_info_score(classes.numpy(), clusters.numpy())),
        "ari": lambda clusters, classes: float(adjusted_rand_score(classes.numpy(), clusters.numpy())),
    }


def agreement(clusters: Tensor, classes: Tensor, seed: int) -> dict[str, float]:
    """Accuracy after matching, NMI and ARI on all images, then their means over batches of 64 beside chance.

    Few images agree with any clusters by chance: with ten classes the NMI of 64 is 0.3 for clusters that know nothing.
    Chance is what the same clusters reach when they are dealt out to other images.
    """
    dealt = clusters[permutation(len(clusters), Use.EVALUATION, seed)]
    found = {name: measure(clusters, classes) for name, measure in measures().items()}
    for name, measure in measures().items():
        found[f"{name}-per-64"] = _per_batch(measure, clusters, classes)
        found[f"{name}-per-64-chance"] = _per_batch(measure, dealt, classes)
    return found


def _per_batch(measure: Callable[[Tensor, Tensor], float], clusters: Tensor, classes: Tensor) -> float:
    """The mean over whole batches, or of the only batch if it is smaller."""
    whole = max(len(clusters) // _BATCH * _BATCH, min(len(clusters), _BATCH))
    pairs = zip(clusters[:whole].split(_BATCH), classes[:whole].split(_BATCH), strict=True)
    values = [measure(*pair) for pair in pairs]
    return sum(values) / len(values)


_SUMMARY = "on all {n} test images; per-64: mean over batches as papers print it, beside its chance level"


class Mixture(Evaluator):
    """A Gaussian mixture with full covariances and as many components as classes, on the standardised representation
    of the clean training set (scikit-learn). Test images are assigned to their likeliest component.

    SimVAE (A.7.5) starts 200 times, its code 20 times. It prints means over batches of 64 test images.

    Scores:
        gmm: accuracy after the optimal one-to-one matching of components to classes, on the full test set.
        nmi, ari: normalised mutual information, adjusted Rand index, on the full test set.
        ...-per-64: the mean over batches of 64; ...-per-64-chance: the same for components dealt out at random.
    """

    best = 1.0

    restarts: int = option(default=5, gt=0, help="starts from other k-means; the likeliest mixture is taken")
    max_iter: int = option(default=200, gt=0, help="most iterations of expectation and maximisation, of each start")

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def evaluate(self, evaluation: Evaluation) -> Result:
        import sklearn
        from sklearn.mixture import GaussianMixture

        z, q = standardised(*finite(evaluation))
        train, test = labels(evaluation)
        mixture = GaussianMixture(
            len(train.unique()), covariance_type="full", n_init=self.restarts, max_iter=self.max_iter,
            random_state=seed_of(Use.EVALUATION, evaluation.seed) % 2**32,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `converged` says it, and equal features make no distinct clusters
            mixture.fit(z.double().numpy())
            clusters = torch.from_numpy(mixture.predict(q.double().numpy()))
        scores = agreement(clusters, test, evaluation.seed)
        return Result(
            scores={"gmm": scores.pop("matched"), **{f"gmm-{name}": score for name, score in scores.items()}},
            protocol={
                "fitted_on": len(z),
                "tested_on": len(q),
                "components": mixture.n_components,
                "mixture": f"GaussianMixture, full covariance, scikit-learn {sklearn.__version__}",
                "log_likelihood": float(mixture.lower_bound_),
                "converged": bool(mixture.converged_),
            },
            summary=f"{mixture.n_components} components, best of {self.restarts} starts; " + _SUMMARY.format(n=len(q))
            + ("" if mixture.converged_ else ", not converged"),
        )  # fmt: skip


class Cluster(Evaluator):
    """The method's own clusters: the likeliest by `method.cluster` for each test image.

    Scores:
        cluster: accuracy after the optimal one-to-one matching of clusters to classes, on the full test set.
        cluster-unmatched: accuracy of cluster k taken for class k: what a method scores that knows the classes' names.
        cluster-nmi, cluster-ari: as of gmm, and so are cluster-...-per-64 and its chance.
    """

    best = 1.0

    def skip(self, evaluation: Evaluation) -> str:
        if not can(evaluation.method, Clusters):
            return "the method has no clusters of its own"
        return without_labels(evaluation)

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Result:
        _, test = labels(evaluation)
        method = evaluation.method
        assert can(method, Clusters), "skip() asks for it"
        log_p = torch.cat(
            [method.cluster(x).float().cpu() for x in evaluation.data[1].batches(evaluation.device)]
        )  # (n, K)
        if log_p.isnan().any():
            raise DataError(f"the clusters of test image {int(log_p.isnan().any(dim=1).nonzero()[0])} are not a number")
        clusters = log_p.argmax(dim=1)
        scores = agreement(clusters, test, evaluation.seed)
        return Result(
            scores={
                "cluster": scores.pop("matched"),
                "cluster-unmatched": (clusters == test).double().mean().item(),
                **{f"cluster-{name}": score for name, score in scores.items()},
            },
            protocol={"tested_on": len(test), "clusters": log_p.shape[1], "used": len(clusters.unique())},
            summary=f"the method's own {log_p.shape[1]}; " + _SUMMARY.format(n=len(test)),
        )
