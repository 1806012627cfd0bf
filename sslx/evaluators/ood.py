"""Are images of another dataset told from those of the run?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import (
    Clusters,
    DataError,
    Dataset,
    Evaluation,
    Evaluator,
    HasDensity,
    Method,
    Result,
    Split,
    Use,
    can,
    option,
    permutation,
    pixels,
    slot,
)

_CHUNK = 256
Score = Callable[[Tensor], Tensor]  # (B, C, H, W) -> (B,), higher for images that the model knows


class OOD(Evaluator):
    """Area under the ROC curve of telling test images of the run, as positives, from those of another dataset.

    That one's images get the size and the number of channels of the run's. Nothing is fitted: 0.5 is chance, and less
    says that the other dataset is the likelier one.

    Scores, of what the method has:
        ood: by -‖∇ₓ log p(x)‖, which is small where the density is flat (Grathwohl et al. 2020; GEDI's tables).
        ood-density: by log p(x), up to a constant.
        ood-confidence: by the largest probability of a cluster.
    """

    against: Dataset | None = slot(default=None, help="the other dataset, such as mnist")
    images: int = option(default=2000, gt=0, help="most test images of each")

    def skip(self, evaluation: Evaluation) -> str:
        if not scores(evaluation.method):
            return "the method has neither a density nor clusters"
        return "" if self.against is not None else "name a second dataset with `--set evaluators.ood.against=NAME`"

    def evaluate(self, evaluation: Evaluation) -> Result:
        from sklearn.metrics import roc_auc_score

        assert self.against is not None, "skip() asks for it"
        known = self._some(evaluation.data[1], evaluation.seed)
        other = self._some(evaluation.load(self.against)[1], evaluation.seed)
        shape = tuple(other.shape[1:])
        x, truth = torch.cat([known, like(other, known)]), torch.arange(len(known) + len(other)) < len(known)
        found = {}
        for name, score in scores(evaluation.method).items():
            values = torch.cat([score(part.to(evaluation.device)).float().cpu() for part in x.split(_CHUNK)])
            if values.isnan().any():
                raise DataError(f"{name} is not a number for {int(values.isnan().sum())} images")
            found[name] = float(roc_auc_score(truth.numpy(), values.nan_to_num().numpy()))
        name = type(self.against).__name__
        return Result(
            scores=found,
            protocol={"known": len(known), "other": len(other), "other_shape": shape},
            summary=f"area under the ROC curve, {len(known)} test images against {len(other)} of {name}",
        )

    def _some(self, test: Split, seed: int) -> Tensor:
        """A sample of the test images, (n, C, H, W), floats."""
        index = permutation(len(test), Use.EVALUATION, seed)[: self.images]
        return pixels(test.images[index])


def scores(method: Method) -> Mapping[str, Score]:
    """What says of an image whether the method knows it."""
    found: dict[str, Score] = {}
    if can(method, HasDensity):
        found["ood"] = lambda x: -steepness(method.log_density, x)
        found["ood-density"] = lambda x: method.log_density(x).detach()
    if can(method, Clusters):
        found["ood-confidence"] = lambda x: method.cluster(x).detach().amax(dim=1)
    return found


def steepness(f: Score, x: Tensor) -> Tensor:
    """‖∇f(x)‖ of each image, (B,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(f(x).sum(), x)
    return gradient.flatten(1).norm(dim=1)


def like(images: Tensor, others: Tensor) -> Tensor:
    """The images with the channels and the size of the others: grey where these are, resized by antialiasing."""
    C, H, W = others.shape[1:]
    if images.shape[1] != C:
        images = images.mean(dim=1, keepdim=True).expand(-1, C, -1, -1)
    if images.shape[2:] != (H, W):
        images = F.interpolate(images, (H, W), mode="bilinear", antialias=True)
    return images
