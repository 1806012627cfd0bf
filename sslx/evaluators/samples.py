"""Distance between images that a method draws and real ones."""

import torch
from torch import Tensor

from sslx.api import DataError, Evaluation, Evaluator, Result, Samples, can, option, resized
from sslx.evaluators.common import some


class SampleDistance(Evaluator):
    """Energy distance between images that the method draws and test images, as vectors of pixels.

        2 E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖, over pairs of different images (Székely & Rizzo 2013)

    Scores:
        samples: the distance, which is zero only for equal distributions, up to chance.
        samples-of-training: the distance of as many training images, which is that of perfect samples.
    """

    images: int = option(default=1000, gt=1, help="Maximum number of images that are drawn.")

    def skip(self, evaluation: Evaluation) -> str:
        return "" if can(evaluation.method, Samples) else "the method draws no images"

    def evaluate(self, evaluation: Evaluation) -> Result:
        train, test = evaluation.data
        n = min(self.images, len(train), len(test))
        x, y = (some(half, n, evaluation.seed) for half in (train, test))
        assert can(evaluation.method, Samples), "skip() asks for it"
        with torch.no_grad():
            drawn = resized(evaluation.method.sample(n).float().cpu(), x.shape[-2:])
        if not drawn.isfinite().all():
            raise DataError("a drawn image is not finite: the sampler has diverged")
        return Result(
            scores={"samples": energy_distance(drawn, y), "samples-of-training": energy_distance(x, y)},
            protocol={"images": n},
            summary=f"energy distance between {n} drawn and {n} test images, as vectors of pixels",
        )


def energy_distance(x: Tensor, y: Tensor) -> float:
    """(n, C, H, W) and (m, C, H, W) -> the unbiased estimate: no image is paired with itself."""
    x, y = x.flatten(1).double(), y.flatten(1).double()
    return (2 * torch.cdist(x, y).mean() - torch.pdist(x).mean() - torch.pdist(y).mean()).item()
