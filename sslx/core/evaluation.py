"""Evaluation: features of the clean, full splits once, then every evaluator on the same features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from sslx.core.errors import DataError
from sslx.core.interfaces import Evaluation, Evaluator, Features, Method, Split

_CHUNK = 1024


@torch.no_grad()
def features(method: Method, split: Split, device: torch.device) -> Features:
    """`method.represent` of every image of a split, unaugmented, in evaluation mode and float32."""
    training = method.training
    method.eval()
    try:
        parts = [method.represent(pixels(images).to(device)).float().cpu() for images in split.images.split(_CHUNK)]
    finally:
        method.train(training)
    z = torch.cat(parts)
    if z.ndim != 2:
        raise DataError(f"{type(method).__name__}.represent must return (B, D), it returned {tuple(z.shape)}")
    return Features(z, split.labels, split.factors)


def pixels(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floats as they are."""
    return images if images.is_floating_point() else images.to(torch.float32) / 255


def evaluate(
    evaluators: Mapping[str, Evaluator], method: Method, data: tuple[Split, Split], device: torch.device, seed: int
) -> dict[str, Any]:
    """For each evaluator its scores and protocol, or why it was skipped."""
    train, test = (features(method, split, device) for split in data)
    evaluation = Evaluation(train, test, method, data, device, seed)
    report: dict[str, Any] = {}
    for name, evaluator in evaluators.items():
        if reason := evaluator.skip(evaluation):
            report[name] = {"skipped": reason}
        else:
            result = evaluator.evaluate(evaluation)
            report[name] = attrs.asdict(result)
    return report
