"""How much of an image its representation contains."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import (
    Context,
    Decoder,
    Evaluation,
    Reconstructs,
    Result,
    Use,
    can,
    option,
    permutation,
    pixels,
    slot,
)
from sslx.evaluators.common import Trains, finite, standardized

_COLUMNS, _ROWS = 8, 4  # of the picture

# A function of test images and their positions; the name of the decoder; and further facts of the protocol.
Decoding = tuple[Callable[[Tensor, Tensor], Tensor], str, dict[str, Any]]


class Reconstruction(Trains, steps=1000, batch_size=64, lr=1e-3):
    """Mean squared error of test images that are decoded from their representation.

    Methods with a function `reconstruct` use it. For all others the same decoder is trained on the frozen
    representation of the clean training images, by the mean squared error, and stopped on a held-out tenth of them
    (SimVAE, A.7.6: its Table 3b, Adam with 1e-4 for 10 to 80 epochs). With `own=false` this is done for all methods.

    Scores:
        reconstruction: the mean squared error per pixel, for pixels in [0, 1]. That of the mean image is the variance.
    """

    best = 0.0

    decoder: Decoder = slot(default="mlp", help="Decoder that is trained if the method has none.")
    own: bool = option(default=True, help="Whether a method's own decoder is used, where it has one.")

    def evaluate(self, evaluation: Evaluation) -> Result:
        decode, how, facts = self._decoding(evaluation)
        (train, test), device = evaluation.data, evaluation.device
        mean = torch.stack([x.double().sum(dim=0) for x in train.batches(device)]).sum(dim=0).float() / len(train)
        total, of_mean, start = 0.0, 0.0, 0
        for x in test.batches(device):
            with torch.no_grad():
                total += F.mse_loss(decode(x, torch.arange(start, start + len(x))), x).item() * len(x)
            of_mean += F.mse_loss(mean.expand_as(x), x).item() * len(x)
            start += len(x)
        return Result(
            scores={"reconstruction": total / start},
            protocol={"tested_on": start, "decoder": how, "of_the_mean_image": of_mean / start, **facts},
            summary=f"mean squared error per pixel of images decoded by {how}",
            pictures=self._picture(evaluation, decode) if facts else {},  # a method's own decoder has one of the run
        )

    @torch.no_grad()
    def _picture(self, evaluation: Evaluation, decode: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        """Rows of test images over rows of what is decoded from their representations."""
        test = evaluation.data[1]
        if test.images.dtype.is_floating_point:  # points in the plane
            return {}
        index = permutation(len(test), Use.EVALUATION, evaluation.seed)[: _ROWS * _COLUMNS]
        images = pixels(test.images[index])
        pairs = zip(images.split(_COLUMNS), decode(images, index).cpu().split(_COLUMNS), strict=True)
        return {"decoded": torch.cat([row for pair in pairs for row in pair])}

    def _decoding(self, evaluation: Evaluation) -> Decoding:
        method = evaluation.method
        if self.own and can(method, Reconstructs):
            return lambda x, index: method.reconstruct(x).float(), "the method's own decoder", {}
        z, q = standardized(*finite(evaluation))
        images, device = evaluation.data[0].images, evaluation.device
        C, H, W = images.shape[1:]
        decoder = copy.deepcopy(self.decoder)  # the config's own is never built, so that it can be built again
        decoder.build(Context((C, H, W), len(images), latent=z.shape[1]))
        decoder.to(device)
        found = self.fit(evaluation, decoder, z, images, lambda p, y: F.mse_loss(p.mean, pixels(y)), device)
        how = f"a decoder trained afterwards on the frozen features, {self.steps} batches of {self.batch_size}"
        protocol = {"trained_on": len(z), "held_out": found._asdict()}
        return lambda x, index: decoder(q[index].to(device)).mean, how, protocol
