"""The method's own clusters, compared with the classes."""

import torch

from sslx.api import Clusters, DataError, Evaluation, Evaluator, Result, can
from sslx.evaluators.agreement import SUMMARY, agreement


class Cluster(Evaluator):
    """The method's own clusters: for each test image the likeliest one according to `method.cluster`.

    Scores:
        cluster: accuracy after the optimal one-to-one matching of clusters to classes, on the full test set.
        cluster-unmatched: accuracy when cluster k is class k, for methods that know the names of the classes.
        cluster-nmi, cluster-ari, cluster-...-per-64, cluster-...-per-64-chance: as for gmm.
    """

    best = 1.0

    def skip(self, evaluation: Evaluation) -> str:
        if not can(evaluation.method, Clusters):
            return "the method has no clusters of its own"
        if evaluation.test.labels is None:
            return "the test set has no labels" if evaluation.train.labels is not None else "the dataset has no labels"
        return "" if len(evaluation.test.labels.unique()) > 1 else "the test set has fewer than two classes"

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Result:
        test = evaluation.test.labels
        method = evaluation.method
        assert can(method, Clusters) and test is not None, "skip() asks for them"
        found = [method.cluster(x).float().cpu() for x in evaluation.data[1].batches(evaluation.device)]
        log_p = torch.cat(found)  # (n, K)
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
            summary=f"the method's own {log_p.shape[1]} clusters; {SUMMARY.format(n=len(test))}",
        )
