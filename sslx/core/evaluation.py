"""Evaluation: features of the clean, full splits once, then every evaluator on the same features."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from sslx.core.errors import DataError, PluginError
from sslx.core.interfaces import Evaluation, Evaluator, Features, Method, Result, Split

_CHUNK = 1024  # images at a time,
_NUMBERS = 1 << 22  # and fewer if they are large


@torch.no_grad()
def features(method: Method, split: Split, device: torch.device) -> Features:
    """`method.represent` of every image of a split, unaugmented, in evaluation mode and float32."""
    training, images = method.training, split.images
    chunk = max(1, min(_CHUNK, _NUMBERS // images.shape[1:].numel()))
    method.eval()
    try:
        parts = [
            method.represent(pixels(images[index]).to(device)).float().cpu()
            for index in torch.arange(len(split)).split(chunk)
        ]
    finally:
        method.train(training)
    z = torch.cat(parts)
    if z.ndim != 2:
        raise DataError(f"{type(method).__name__}.represent must return (B, D), it returned {tuple(z.shape)}")
    return Features(z, split.labels, split.factors)


def pixels(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floats as they are."""
    return images if images.is_floating_point() else images.to(torch.float32).div_(255)


def evaluate(
    evaluators: Mapping[str, Evaluator], method: Method, data: tuple[Split, Split], device: torch.device, seed: int
) -> dict[str, Any]:
    """For each evaluator its scores and protocol, or why it was skipped or failed."""
    train, test = (features(method, split, device) for split in data)
    evaluation = Evaluation(train, test, method, data, device, seed)
    report: dict[str, Any] = {}
    for name, evaluator in evaluators.items():
        if reason := evaluator.skip(evaluation):
            report[name] = {"skipped": reason}
        else:
            try:
                result = evaluator.evaluate(evaluation)
                if not isinstance(result, Result):
                    raise PluginError(f"evaluate must return a Result, it returned {type(result).__name__}")
                report[name] = attrs.asdict(result)
            except Exception as error:  # the scores of the others are not lost for it
                report[name] = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return report
