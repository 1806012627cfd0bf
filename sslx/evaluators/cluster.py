"""The method's clusters, compared with the classes."""

import torch

from sslx.api import Clusters, DataError, Evaluation, Evaluator, Result, can, option
from sslx.evaluators.agreement import SUMMARY, agreement


class Cluster(Evaluator):
    """The method's own clusters: for each test image the likeliest one according to `method.cluster`.

    GEDI's tables also have an NMI for Barlow Twins, which has no clusters, and do not say how. With `embedding=true`
    the embedding z = g(f(x)) takes the place of GEDI's logits, for any method with a projection head: the cluster of an
    image is the largest component.

    Scores:
        cluster: accuracy after the optimal one-to-one matching of clusters to classes, on the full test set.
        cluster-unmatched: accuracy when cluster k is class k, for methods that know the names of the classes.
        cluster-nmi, cluster-ari, cluster-...-per-64, cluster-...-per-64-chance: as for gmm.
        cluster-embedding, cluster-embedding-...: the same with `embedding=true`, in the place of the others.
    """

    best = 1.0
    ignored = frozenset({"of"})

    embedding: bool = option(
        default=False,
        help="Whether the largest component of the embedding is the cluster, for methods without clusters.",
    )

    def skip(self, evaluation: Evaluation) -> str:
        if self.embedding and "embedding" not in evaluation.method.representations():
            return "the method has no embedding"
        if not self.embedding and not can(evaluation.method, Clusters):
            return "the method has no clusters of its own"
        if evaluation.test.labels is None:
            return "the test set has no labels" if evaluation.train.labels is not None else "the dataset has no labels"
        return "" if len(evaluation.test.labels.unique()) > 1 else "the test set has fewer than two classes"

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Result:
        test, method = evaluation.test.labels, evaluation.method
        assert test is not None, "skip() asks for them"
        if self.embedding:
            score, name = method.representations()["embedding"], "cluster-embedding"
        else:
            assert can(method, Clusters), "skip() asks for them"
            score, name = method.cluster, "cluster"
        log_p = torch.cat([score(x).float().cpu() for x in evaluation.data[1].batches(evaluation.device)])  # (n, K)
        if log_p.isnan().any():
            raise DataError(f"the clusters of test image {int(log_p.isnan().any(dim=1).nonzero()[0])} are not a number")
        clusters = log_p.argmax(dim=1)
        scores = agreement(clusters, test, evaluation.seed)
        return Result(
            scores={
                name: scores.pop("matched"),
                f"{name}-unmatched": (clusters == test).double().mean().item(),
                **{f"{name}-{measure}": score for measure, score in scores.items()},
            },
            protocol={"tested_on": len(test), "clusters": log_p.shape[1], "used": len(clusters.unique())},
            summary=f"{self._kind(log_p.shape[1])}; {SUMMARY.format(n=len(test))}",
        )

    def _kind(self, n: int) -> str:
        return f"the largest of {n} components of the embedding" if self.embedding else f"the method's own {n} clusters"
