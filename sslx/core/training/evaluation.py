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
from sslx.core.training.progress import Meter


@torch.no_grad()
def features(method: Method, split: Split, device: torch.device, what: str = "features") -> Features:
    """`method.represent` of every image of a split, unaugmented and float32.

    Raises Interrupted after a stop signal.
    """
    found, done, meter = list[Tensor](), 0, Meter(what, len(split))
    for x in split.batches(device):
        heed()
        z: Any = method.represent(x)
        if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != len(x):
            got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise PluginError(f"{type(method).__name__}.represent must return ({len(x)}, D), it returned {got}")
        found.append(z.float().cpu())
        meter.advance(done := done + len(x))
    return Features(torch.cat(found) if found else torch.empty(0, 0), split.labels, split.factors)


def evaluate(
    evaluators: Mapping[str, Evaluator],
    method: Method,
    data: tuple[Split, Split],
    views: ViewPolicy,
    device: torch.device,
    seed: int,
    load: Callable[[Dataset], tuple[Split, Split]],
    who: str = "",
    keep: Callable[[str, dict[str, Any]], None] = lambda name, result: None,
) -> dict[str, Any]:
    """For each evaluator its options, and its scores and protocol, or why it was skipped or failed.

    Args:
        who: which method it is, for lines of progress.
        keep: called with each name and result as soon as it is known.

    Raises Interrupted after a stop signal.
    """
    if not evaluators:
        return {}
    report: dict[str, Any] = {}

    def add(name: str, result: dict[str, Any]) -> None:
        report[name] = {"options": to_dict(evaluators[name]), **result}
        keep(name, report[name])

    training = method.training
    method.eval()
    try:
        try:
            train, test = (
                features(method, split, device, f"features of {who} {half} images".replace("  ", " "))
                for split, half in zip(data, ("training", "test"), strict=True)
            )
        except BaseException as error:  # all evaluators need the features; the training is kept
            if isinstance(error, Interrupted) or signals.stops(error):
                raise
            for name in evaluators:
                add(name, _failure(error))
            return report
        evaluation = Evaluation(train, test, method, data, views, device, seed, load)
        for name, part in evaluators.items():
            add(name, _one(part, evaluation))
        return report
    finally:
        method.train(training)


def heed() -> None:
    """Raise Interrupted after a stop signal."""
    if signals.received():
        raise Interrupted(f"stopped by {signals.received()} before the evaluation was done")


def _failure(error: BaseException) -> dict[str, Any]:
    return {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _one(evaluator: Evaluator, evaluation: Evaluation) -> dict[str, Any]:
    heed()
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
    except BaseException as error:  # the scores of the others are kept
        if isinstance(error, Interrupted) or signals.stops(error):
            raise
        return _failure(error)
