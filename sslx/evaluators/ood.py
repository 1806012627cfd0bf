"""How well a method tells images of other datasets from those of the run."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import Clusters, DataError, Dataset, Evaluation, Evaluator, HasDensity, Method, Result, can, option, slot
from sslx.evaluators.common import some

_CHUNK = 256
Score = Callable[[Tensor], Tensor]  # (B, C, H, W) -> (B,), higher for images that the model knows


class OOD(Evaluator):
    """Area under the ROC curve for telling test images of the run (positives) from those of other datasets.

    Images of the other datasets are converted to the size and channels of the run's. Nothing is fitted. 0.5 is chance,
    and a smaller value means that the other dataset is the likelier one.

    GEDI's tables also have values for Barlow Twins, which has no density, and do not say how. With `embedding=true` the
    embedding z = g(f(x)) takes the place of GEDI's logits, for any method with a projection head: log p(x) is the
    logsumexp of its components, up to a constant, and the probabilities of the clusters are their softmax.

    Scores, as far as the method has a density and clusters:
        ood: by -‖∇ₓ log p(x)‖, whose absolute value is small where the density is flat (Grathwohl et al. 2020; GEDI).
        ood-density: by log p(x), up to a constant.
        ood-confidence: by the largest probability of a cluster.
        ood-NAME, ood-density-NAME, ood-confidence-NAME: with several other datasets, the scores for each of them. Those
            without a name are then the means.
        ood-embedding, ood-embedding-...: the same with `embedding=true`, in the place of the others.
    """

    ignored = frozenset({"of"})

    against: Dataset | None = slot(default=None, help="The other dataset, such as mnist.")
    datasets: dict[str, Dataset] = slot(default={}, help="Several other datasets, such as svhn,cifar100.")
    images: int = option(default=2000, gt=0, help="Maximum number of test images of each dataset.")
    embedding: bool = option(
        default=False, help="Whether the components of the embedding are taken as logits, for methods without them."
    )

    def skip(self, evaluation: Evaluation) -> str:
        if self.embedding and "embedding" not in evaluation.method.representations():
            return "the method has no embedding"
        if not self.embedding and not scores(evaluation.method):
            return "the method has neither a density nor clusters"
        return "" if self._others() else "name a second dataset with --set evaluators.ood.against=NAME"

    def _others(self) -> dict[str, Dataset]:
        """The other datasets by name."""
        return ({} if self.against is None else {type(self.against).__name__: self.against}) | self.datasets

    def evaluate(self, evaluation: Evaluation) -> Result:
        from sklearn.metrics import roc_auc_score

        method = evaluation.method
        wanted = of_logits(method.representations()["embedding"]) if self.embedding else scores(method)
        prefix = "ood-embedding" if self.embedding else "ood"
        known = some(evaluation.data[1], self.images, evaluation.seed)
        of_known = {name: _values(name, score, known, evaluation.device) for name, score in wanted.items()}
        found: dict[str, dict[str, float]] = {name: {} for name in wanted}
        facts: dict[str, dict[str, Any]] = {}
        for dataset, part in self._others().items():
            others = some(evaluation.load(part)[1], self.images, evaluation.seed)
            facts[dataset] = {"other": len(others), "other_shape": tuple(others.shape[1:])}
            truth = torch.arange(len(known) + len(others)) < len(known)
            for name, score in wanted.items():
                of_others = _values(name, score, like(others, known), evaluation.device)
                found[name][dataset] = float(
                    roc_auc_score(truth.numpy(), torch.cat([of_known[name], of_others]).numpy())
                )
        means = {f"{prefix}{name}": sum(areas.values()) / len(areas) for name, areas in found.items()}
        if several := len(facts) > 1:
            for name, areas in found.items():
                means |= {f"{prefix}{name}-{dataset}": area for dataset, area in areas.items()}
        listed = ", ".join(f"{each['other']} of {dataset}" for dataset, each in facts.items())
        return Result(
            scores=means,
            protocol={"known": len(known), **({"others": facts} if several else next(iter(facts.values())))},
            summary=f"area under the ROC curve for telling {len(known)} test images from {listed}"
            + ("; scores without a name are means over the datasets" if several else "")
            + ("; the embedding is taken as logits" if self.embedding else ""),
        )


def scores(method: Method) -> Mapping[str, Score]:
    """The scores by which a method can tell images that it knows from others, by the end of their name."""
    found: dict[str, Score] = {}
    if can(method, HasDensity):
        found |= _of_density(method.log_density)
    if can(method, Clusters):
        found["-confidence"] = lambda x: method.cluster(x).detach().amax(dim=1)
    return found


def of_logits(logits: Score) -> Mapping[str, Score]:
    """The same scores of a function that gives logits, (B, C, H, W) -> (B, K)."""
    confidence = {"-confidence": lambda x: logits(x).detach().log_softmax(dim=1).amax(dim=1)}
    return _of_density(lambda x: logits(x).float().logsumexp(dim=1)) | confidence


def _of_density(log_density: Score) -> dict[str, Score]:
    return {"": lambda x: -steepness(log_density, x), "-density": lambda x: log_density(x).detach()}


def _values(name: str, score: Score, images: Tensor, device: torch.device) -> Tensor:
    """The score of each image, (n,), on the CPU. Raises DataError if one is not a number."""
    values = torch.cat([score(part.to(device)).float().cpu() for part in images.split(_CHUNK)])
    if values.isnan().any():
        raise DataError(f"ood{name} is not a number for {int(values.isnan().sum())} images")
    return values.nan_to_num()


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
