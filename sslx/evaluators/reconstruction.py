"""How much of an image is left in its representation?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslx.api import Context, Decoder, Evaluation, Evaluator, Reconstructs, Result, can, option, pixels, slot
from sslx.evaluators.common import finite, fit, outputs, standardised

# From test images and the position of the first of them to what is decoded; by which decoder; more of its protocol.
Decoding = tuple[Callable[[Tensor, int], Tensor], str, dict[str, Any]]


class Reconstruction(Evaluator):
    """Mean squared error of test images that are decoded from their representation.

    Methods that have a `reconstruct` decode by themselves. For all others one and the same decoder is trained on the
    frozen representation of the clean training images, by the mean squared error, and stopped by a held-out tenth of
    them (SimVAE, A.7.6: its Table 3b, Adam with 1e-4 for 10 to 80 epochs). With `own=false` that is done for all.

    Scores:
        reconstruction: the mean squared error per pixel, of pixels in [0, 1]. The mean image has the variance of one.
    """

    best = 0.0

    decoder: Decoder = slot(default="mlp", help="trained where the method has none")
    own: bool = option(default=True, help="let a method decode by itself where it can")
    steps: int = option(default=1000, gt=0, help="most batches that the decoder is trained with")
    batch_size: int = option(default=64, gt=0, help="images of a batch")
    lr: float = option(default=1e-3, gt=0, help="learning rate of the decoder")

    def evaluate(self, evaluation: Evaluation) -> Result:
        own = self.own and can(evaluation.method, Reconstructs)
        decode, how, facts = _own(evaluation) if own else self._trained(evaluation)
        (train, test), device = evaluation.data, evaluation.device
        mean = torch.stack([x.double().sum(dim=0) for x in train.batches(device)]).sum(dim=0).float() / len(train)
        total, of_mean, start = 0.0, 0.0, 0
        for x in test.batches(device):
            total += F.mse_loss(decode(x, start), x).item() * len(x)
            of_mean += F.mse_loss(mean.expand_as(x), x).item() * len(x)
            start += len(x)
        return Result(
            scores={"reconstruction": total / start},
            protocol={"tested_on": start, "decoder": how, "of_the_mean_image": of_mean / start, **facts},
            summary=f"mean squared error per pixel, by {how}",
        )

    def _trained(self, evaluation: Evaluation) -> Decoding:
        z, q = standardised(*finite(evaluation))
        images, device = evaluation.data[0].images, evaluation.device
        C, H, W = images.shape[1:]
        decoder = copy.deepcopy(self.decoder)  # the config's own is never built, so that it can be built again
        decoder.build(Context((C, H, W), len(images), latent=z.shape[1]))
        model = _Mean(decoder).to(device)
        found = fit(
            model, z, images, lambda x, y: F.mse_loss(x, pixels(y)), steps=self.steps, batch_size=self.batch_size,
            lr=self.lr, seed=evaluation.seed, device=device,
        )  # fmt: skip
        how = f"a decoder trained afterwards on the frozen features, {self.steps} batches of {self.batch_size}"
        protocol = {"trained_on": len(z), "held_out": found._asdict()}
        return lambda x, start: outputs(model, q[start : start + len(x)], device).to(device), how, protocol


def _own(evaluation: Evaluation) -> Decoding:
    method = evaluation.method
    assert can(method, Reconstructs), "who calls this asks for it"

    @torch.no_grad()
    def decode(x: Tensor, start: int) -> Tensor:
        return method.reconstruct(x).float()

    return decode, "the method's own decoder", {}


class _Mean(nn.Module):
    """A decoder as a function: the mean of p(x|z)."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z).mean
