"""How well a method tells images of another dataset from those of the run."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import Clusters, DataError, Dataset, Evaluation, Evaluator, HasDensity, Method, Result, can, option, slot
from sslx.evaluators.common import some

_CHUNK = 256
Score = Callable[[Tensor], Tensor]  # (B, C, H, W) -> (B,), higher for images that the model knows


class OOD(Evaluator):
    """Area under the ROC curve for telling test images of the run (positives) from those of another dataset.

    Images of the other dataset are converted to the size and channels of the run's. Nothing is fitted. 0.5 is chance,
    and a smaller value means that the other dataset is the likelier one.

    Scores, as far as the method has a density and clusters:
        ood: by -‖∇ₓ log p(x)‖, whose absolute value is small where the density is flat (Grathwohl et al. 2020; GEDI).
        ood-density: by log p(x), up to a constant.
        ood-confidence: by the largest probability of a cluster.
    """

    against: Dataset | None = slot(default=None, help="The other dataset, such as mnist.")
    images: int = option(default=2000, gt=0, help="Maximum number of test images of each dataset.")

    def skip(self, evaluation: Evaluation) -> str:
        if not scores(evaluation.method):
            return "the method has neither a density nor clusters"
        return "" if self.against is not None else "name a second dataset with --set evaluators.ood.against=NAME"

    def evaluate(self, evaluation: Evaluation) -> Result:
        from sklearn.metrics import roc_auc_score

        assert self.against is not None, "skip() asks for it"
        both = evaluation.data, evaluation.load(self.against)
        known, other = (some(test, self.images, evaluation.seed) for _, test in both)
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
            summary=f"area under the ROC curve for telling {len(known)} test images from {len(other)} of {name}",
        )


def scores(method: Method) -> Mapping[str, Score]:
    """The scores by which a method can tell images that it knows from others."""
    found: dict[str, Score] = {}
    if can(method, HasDensity):
        found["ood"] = lambda x: -steepness(method.log_density, x)
        found["ood-density"] = lambda x: method.log_density(x).detach()
    if can(method, Clusters):
        found["ood-confidence"] = lambda x: method.cluster(x).detach().amax(dim=1)
    return found


def steepness(f: Score, x: Tensor) -> Tensor:
    """‖∇f(x)‖ for each image, (B,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(f(x).sum(), x)
    return gradient.flatten(1).norm(dim=1)


def like(images: Tensor, others: Tensor) -> Tensor:
    """The images with the channels and size of the others: grey if these are, resized with antialiasing."""
    C, H, W = others.shape[1:]
    if images.shape[1] != C:
        images = images.mean(dim=1, keepdim=True).expand(-1, C, -1, -1)
    if images.shape[2:] != (H, W):
        images = F.interpolate(images, (H, W), mode="bilinear", antialias=True)
    return images
