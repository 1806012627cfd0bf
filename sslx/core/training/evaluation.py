"""Evaluation: features of the clean, full splits once, then every evaluator on the same features."""

import traceback
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

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
from sslx.core.options import options_of, to_dict
from sslx.core.randomness import Use, borrowed, seed_of, seed_torch
from sslx.core.team import Parts, Team
from sslx.core.training.precision import autocast, matrix_products
from sslx.core.training.progress import Meter
from sslx.core.training.runtime import lost

Halves = tuple[Features, Features]  # of the training and the test images


def chosen(method: Method, wanted: str | None = None) -> str:
    """The representation of a method to evaluate: the wanted one or its own; its latent if it has no features."""
    own: str = getattr(method, "representation", "latent")
    name = own if wanted is None else wanted
    return "latent" if name == "features" and name not in method.representations() else name


@torch.no_grad()
def features(
    method: Method,
    split: Split,
    device: torch.device,
    what: str = "features",
    of: str | None = None,
    precision: str = "fp32",
    share: tuple[int, int] = (0, 1),
) -> Features:
    """A representation of every image of a split, unaugmented and float32.

    Args:
        what: what is computed, for the line of progress.
        of: the representation; None is that of `method.represent`.
        precision: that of the forward pass, as in `train.precision`.
        share: which of the batches, as in `Split.batches`; the features are then of these alone.

    Raises Interrupted after a stop signal.
    """
    represent = method.represent if of is None else method.representations()[of]
    found, done, meter = list[Tensor](), 0, Meter(what, len(split) // share[1])
    for x in split.batches(device, share=share):
        heed()
        with autocast(precision, device), matrix_products(precision):
            z: Any = represent(x)
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
    precision: str = "fp32",
    offline: bool = False,
    draw: Callable[[str, Tensor], None] = lambda name, images: None,
    team: Team | None = None,
) -> dict[str, Any]:
    """For each evaluator its options, and its scores and protocol, or why it was skipped or failed.

    Args:
        who: which method it is, for lines of progress.
        keep: called with each name and result as soon as it is known.
        precision: that of the forward pass, as in `train.precision`.
        offline: whether nothing may be downloaded.
        draw: called with the name and the images of each picture.
        team: the processes that share the work, in the main one of several; `who` is then what they call the method.

    Raises Interrupted after a stop signal.
    """
    report: dict[str, Any] = {}

    @cache
    def parts(of: str) -> Halves:
        """The features as they are shared among the processes; all of the test images are here."""
        assert team is not None
        found = [team.features(who, half, of) for half in ("training", "test")]
        (train, test), z = data, cast(Tensor, found[0])  # a tensor for what evaluators that take parts do with it
        return Features(z, train.labels, train.factors), Features(found[1].whole(), test.labels, test.factors)

    @cache
    def halves(of: str) -> Halves:
        if team is not None:
            train, test = parts(of)
            return attrs.evolve(train, z=cast(Parts, train.z).whole()), test
        train, test = (
            features(method, split, device, f"{of} of {who} {half} images".replace("  ", " "), of, precision)
            for split, half in zip(data, ("training", "test"), strict=True)
        )
        return train, test

    def one(evaluator: Evaluator, wanted: str | None) -> tuple[Result, str, int] | str:
        """The result, which representation it is of, and how wide that is; or why there is none."""
        of = chosen(method, wanted)
        if of not in method.representations():
            return f"the method has no {of}"
        train, test = parts(of) if team is not None and evaluator.in_parts else halves(of)
        evaluation = Evaluation(train, test, method, data, views, device, seed, load, of, offline, heed)
        if reason := evaluator.skip(evaluation):
            return reason
        with borrowed():
            # Evaluators write plain torch, like methods, and none depends on the ones before it.
            seed_torch(seed_of(Use.EVALUATION, seed))
            result = evaluator.evaluate(evaluation)
        if not isinstance(result, Result):
            raise PluginError(f"evaluate must return a Result, it returned {type(result).__name__}")
        scores = {name: float(score) for name, score in result.scores.items()}
        if "of" not in options_of(type(evaluator)):  # it looks at the method, not at features
            return attrs.evolve(result, scores=scores), "", 0
        width = train.z.shape[1]
        instead = ", as the encoder has no features" if of != (wanted or getattr(method, "representation", of)) else ""
        summary = f"{of} of {width} dimensions{instead}; {result.summary}"
        return attrs.evolve(result, scores=scores, summary=summary), of, width

    training = method.training
    method.eval()
    try:
        for name, evaluator in evaluators.items():
            heed()
            try:
                results = [one(evaluator, wanted) for wanted in evaluator.of or (None,)]
                report[name] = {"options": to_dict(evaluator), **_joined(results)}
                for result, of, _ in (each for each in results if not isinstance(each, str)):
                    for picture, images in result.pictures.items():
                        draw(f"{name}-{picture}" + (f"@{of}" if len(results) > 1 else ""), images)
            except BaseException as error:  # the scores of the others are kept, and the training
                if isinstance(error, Interrupted) or signals.stops(error) or lost(error):
                    raise
                failed = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
                report[name] = {"options": to_dict(evaluator), **failed}
            keep(name, report[name])
        return report
    finally:
        method.train(training)


def _joined(results: list[tuple[Result, str, int] | str]) -> dict[str, Any]:
    """The results of an evaluator for each representation as one. Several have the names of these in their scores."""
    found = [result for result in results if not isinstance(result, str)]
    if not found:
        return {"skipped": next(result for result in results if isinstance(result, str))}
    if len(found) == 1:
        ((result, of, width),) = found
        facts = attrs.asdict(result, filter=lambda field, _: field.name != "pictures")
        return {**facts, **({"of": {of: width}} if of else {})}
    names = dict.fromkeys(name for result, _, _ in found for name in result.scores)
    return {
        "scores": {f"{name}@{of}": r.scores[name] for name in names for r, of, _ in found if name in r.scores},
        "protocol": {of: result.protocol for result, of, _ in found},
        "summary": "; ".join(result.summary for result, _, _ in found),
        "of": {of: width for _, of, width in found},
    }


def heed() -> None:
    """Raise Interrupted after a stop signal."""
    if signals.received():
        raise Interrupted(f"stopped by {signals.received()} before the evaluation was done")
