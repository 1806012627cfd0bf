"""Do images that a method draws look like real ones?"""

from __future__ import annotations

import torch
from torch import Tensor

from sslx.api import DataError, Evaluation, Evaluator, Result, Samples, Use, can, option, permutation, pixels


class SampleDistance(Evaluator):
    """Energy distance between images that the method draws and test images, as vectors of pixels.

        2 E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖, over pairs of two (Székely & Rizzo 2013)

    Scores:
        samples: the distance, zero only for equal distributions, but for chance.
        samples-of-training: that of as many training images: what perfect samples have.
    """

    images: int = option(default=1000, gt=1, help="most images that are drawn")

    def skip(self, evaluation: Evaluation) -> str:
        return "" if can(evaluation.method, Samples) else "the method draws no images"

    def evaluate(self, evaluation: Evaluation) -> Result:
        train, test = evaluation.data
        n = min(self.images, len(train), len(test))
        x, y = (
            pixels(half.images[permutation(len(half), Use.EVALUATION, evaluation.seed)[:n]]) for half in (train, test)
        )
        assert can(evaluation.method, Samples), "skip() asks for it"
        with torch.no_grad():
            drawn = evaluation.method.sample(n).float().cpu()
        if not drawn.isfinite().all():
            raise DataError("a drawn image is not finite: the sampler has diverged")
        return Result(
            scores={"samples": energy_distance(drawn, y), "samples-of-training": energy_distance(x, y)},
            protocol={"images": n},
            summary=f"energy distance of {n} drawn images to as many test images, in pixels",
        )


def energy_distance(x: Tensor, y: Tensor) -> float:
    """(n, C, H, W) and (m, C, H, W) -> the unbiased estimate: no image is paired with itself."""
    x, y = x.flatten(1).double(), y.flatten(1).double()

    def within(z: Tensor) -> float:
        return float(torch.pdist(z).mean())

    return 2 * float(torch.cdist(x, y).mean()) - within(x) - within(y)
