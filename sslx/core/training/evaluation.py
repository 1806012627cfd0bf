"""Evaluation: features of the clean, full splits once, then every evaluator on the same features."""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from sslx.core import signals
from sslx.core.data import Split
from sslx.core.errors import Interrupted, PluginError
from sslx.core.interfaces import (
    Dataset,
    Evaluation,
    Evaluator,
    Features,
    Method,
    Result,
    ViewPolicy,
)
from sslx.core.options import to_dict
from sslx.core.randomness import Use, borrowed, seed_of, seed_torch


@torch.no_grad()
def features(method: Method, split: Split, device: torch.device) -> Features:
    """`method.represent` of every image of a split, unaugmented and float32."""
    found = []
    for x in split.batches(device):
        z: Any = method.represent(x)
        if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != len(x):
            got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise PluginError(f"{type(method).__name__}.represent must return ({len(x)}, D), it returned {got}")
        found.append(z.float().cpu())
    return Features(torch.cat(found), split.labels, split.factors)


def evaluate(
    evaluators: Mapping[str, Evaluator],
    method: Method,
    data: tuple[Split, Split],
    views: ViewPolicy,
    device: torch.device,
    seed: int,
    load: Callable[[Dataset], tuple[Split, Split]],
) -> dict[str, Any]:
    """For each evaluator its options, and its scores and protocol, or why it was skipped or failed."""
    if not evaluators:
        return {}
    training = method.training
    method.eval()
    try:
        train, test = (features(method, split, device) for split in data)
        evaluation = Evaluation(train, test, method, data, views, device, seed, load)
        return {name: {"options": to_dict(part), **_one(part, evaluation)} for name, part in evaluators.items()}
    finally:
        method.train(training)


def _one(evaluator: Evaluator, evaluation: Evaluation) -> dict[str, Any]:
    if signals.received():
        raise Interrupted(f"stopped by {signals.received()} before the evaluation was done")
    try:
        if reason := evaluator.skip(evaluation):
            return {"skipped": reason}
        with borrowed():
            # Evaluators write plain torch, like methods, and none depends on the ones before it.
            seed_torch(seed_of(Use.EVALUATION, evaluation.seed))
            result = evaluator.evaluate(evaluation)
        if not isinstance(result, Result):
            raise PluginError(f"evaluate must return a Result, it returned {type(result).__name__}")
        return attrs.asdict(attrs.evolve(result, scores={name: float(score) for name, score in result.scores.items()}))
    except Exception as error:  # the scores of the others are kept
        return {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
