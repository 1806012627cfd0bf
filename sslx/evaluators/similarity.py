"""Cosine similarities of the representations of images, within and between classes."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import Evaluation, Evaluator, Result
from sslx.evaluators.common import finite

_MOST_CLASSES = 100  # whose matrix is kept


class Similarity(Evaluator):
    """The cosine similarity of the representations of test images, as AASAE's Fig. 5 shows it.

    If all of them are near 1, the representation has collapsed: it hardly depends on the image.

    Scores:
        similarity: the mean over all pairs of different images.
        similarity-same-class, similarity-other-class: the means over pairs of images of the same class and of different
            classes, in which each class and each pair of classes counts equally. Left out without labels.

    The protocol has the means of all pairs of classes, unless there are more than 100 classes. The picture of some
    images is `similarity.png` in the folder of the run.
    """

    def skip(self, evaluation: Evaluation) -> str:
        return "" if len(evaluation.test.z) > 1 else "there are fewer than two test images"

    def evaluate(self, evaluation: Evaluation) -> Result:
        _, z = finite(evaluation)
        u = F.normalize(z.double())
        scores = {"similarity": between(u, u.new_zeros(len(u)).long()).item()}
        protocol: dict[str, Any] = {"tested_on": len(u)}
        if evaluation.test.labels is not None:
            classes, codes = evaluation.test.labels.unique(return_inverse=True)
            means = between(u, codes)
            if len(classes) < len(u):
                scores["similarity-same-class"] = means.diagonal().nanmean().item()
            if len(classes) > 1:
                scores["similarity-other-class"] = means[~torch.eye(len(classes)).bool()].mean().item()
            if len(classes) <= _MOST_CLASSES:
                protocol |= {"classes": classes.tolist(), "similarities": means.tolist()}
        return Result(
            scores=scores,
            protocol=protocol,
            summary=f"mean cosine similarity of pairs of {len(u)} test images, which is near 1 after a collapse",
        )


def between(u: Tensor, codes: Tensor) -> Tensor:
    """(n, D) unit vectors and their (n,) classes 0 to K - 1 -> means of uᵀu' over pairs of different images, (K, K).

    It is not a number for a class of one image and itself.
    """
    count = codes.bincount().to(u.dtype)
    sums = u.new_zeros(len(count), u.shape[1]).index_add(0, codes, u)
    own = u.new_zeros(len(count)).index_add(0, codes, u.square().sum(dim=1))
    return (sums @ sums.T - own.diag()) / (count.outer(count) - count.diag())
