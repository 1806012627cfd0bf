"""How well clusters agree with classes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sslx.api import Use, permutation

_BATCH = 64  # of SimVAE's and GEDI's tables
SUMMARY = (
    "scores are over all {n} test images; per-64 scores are means over random batches, as in papers, next to chance"
)


def matched(classes: Any, clusters: Any) -> float:
    """Accuracy after the one-to-one matching of clusters to classes that makes it largest, of two (n,) arrays."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(classes, clusters)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(clusters))


def agreement(clusters: Tensor, classes: Tensor, seed: int) -> dict[str, float]:
    """Accuracy after matching, NMI and ARI of all images; then their means over batches of 64, and those at chance.

    Few images agree with any clusters by chance: for 64 images of ten classes, clusters without information have an
    NMI of 0.3. Chance is what the same clusters reach when they are assigned to other images.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    measures = {"matched": matched, "nmi": normalized_mutual_info_score, "ari": adjusted_rand_score}
    y, k = classes.numpy(), clusters.numpy()
    dealt = k[permutation(len(k), Use.EVALUATION, seed).numpy()]
    mixed = permutation(len(k), Use.EVALUATION, seed, 1).numpy()  # folders are sorted, so neighbours have one class
    found = {name: float(measure(y, k)) for name, measure in measures.items()}
    for name, measure in measures.items():
        found[f"{name}-per-64"] = _per_batch(measure, y[mixed], k[mixed])
        found[f"{name}-per-64-chance"] = _per_batch(measure, y[mixed], dealt[mixed])
    return found


def _per_batch(measure: Callable[[Any, Any], float], y: Any, k: Any) -> float:
    """The mean over complete batches, or the value of the only batch if that is smaller."""
    whole = max(len(k) // _BATCH * _BATCH, min(len(k), _BATCH))
    values = [float(measure(y[i : i + _BATCH], k[i : i + _BATCH])) for i in range(0, whole, _BATCH)]
    return sum(values) / len(values)
