"""Scores while a method is trained: which images they are computed on, and which evaluation was the best so far."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

from sslx.core.console import say, tolerant
from sslx.core.data import Split
from sslx.core.errors import ConfigError
from sslx.core.interfaces import Dataset, Method
from sslx.core.randomness import Use, borrowed
from sslx.core.signals import deferred
from sslx.core.training.config import Evaluating, RunConfig
from sslx.core.training.evaluation import evaluate

Halves = tuple[Split, Split]
#: Scores of each evaluator, the headline score first. Their names begin with the images that were classified.
Scores = Mapping[str, Mapping[str, float]]
#: Step and scores of each evaluation so far.
Scored = Sequence[tuple[int, Mapping[str, float]]]
_SAMPLE = 1  # the part of the key that keeps this sample apart from what evaluators draw themselves


def column_of(evaluator: str, score: str) -> str:
    """The score's name, with the evaluator's before it unless it begins like that."""
    return (
        score if score == evaluator or score.startswith((f"{evaluator}-", f"{evaluator}@")) else f"{evaluator}.{score}"
    )


def check_evaluators(config: RunConfig) -> None:
    """Raise ConfigError if the evaluators during training are not among those of the run."""
    chosen, known = config.train.evaluate.evaluators, config.evaluators
    unknown = [name for name in chosen if name not in known]
    if config.train.evaluate.every is not None and (unknown or not chosen):
        expected, got = ", ".join(known) or "which it has none of", ", ".join(unknown) or "none"
        raise ConfigError(f"train.evaluate.evaluators: expected evaluators of the run, {expected}; got {got}")


def sample(data: Halves, options: Evaluating, seed: int) -> Halves:
    """The images of the bank and the queries, which are the same throughout a run. No image is in both."""
    train, test = data
    order = train.shuffled(Use.EVALUATION, seed, _SAMPLE)
    if options.on != "held-out":
        queries = _first(test, test.shuffled(Use.EVALUATION, seed, _SAMPLE), options.queries)
    else:
        fifth = max(len(train) // 5, train.arity)
        queries = _first(train, order[: fifth // train.arity * train.arity], options.queries)
        order = order[len(queries) :]
    return _first(train, order, options.bank), queries


def _first(split: Split, order: torch.Tensor, most: int | None) -> Split:
    """The first images of an order, in the order of the split, with those that belong together."""
    n = len(order) if most is None else min(len(order), most)
    return split.take(order[: n - n % split.arity].sort().values)


def scorer(
    config: RunConfig,
    build: Callable[[], Method],
    data: Halves,
    device: torch.device,
    load: Callable[[Dataset], Halves],
) -> Callable[[Method], Scores]:
    """A function that scores a method while it is trained, and that changes nothing of it.

    It computes with another method, to which it copies the weights, and restores torch's random state. What fails is
    said in a line. A stop signal is heard afterwards.

    Args:
        build: makes the other method.
        data: training images, and those for validation if they are the queries, otherwise test images.
    """
    options = config.train.evaluate

    @cache
    def prepared() -> tuple[Method, Halves]:
        return build().to(device), sample(data, options, config.seed)

    say_once = cache(say)

    def score(method: Method) -> Scores:
        report: dict[str, Any] = {}
        evaluators = {name: config.evaluators[name] for name in options.evaluators}
        with borrowed(), deferred(), tolerant("no scores during training"):
            copy, halves = prepared()
            copy.load_state_dict(method.state_dict())
            copy.load_local_state(method.local_state())
            precision = config.train.precision
            report = evaluate(evaluators, copy, halves, config.views, device, config.seed, load, precision=precision)
        for name, result in report.items():
            for reason in {"skipped", "failed"} & result.keys():
                say_once(f"no scores of {name} during training: {result[reason]}")
        return {
            name: {f"{options.on}/{column_of(name, score)}": value for score, value in result["scores"].items()}
            for name, result in report.items()
            if result.get("scores")
        }

    return score


class Best(NamedTuple):
    """The best evaluation so far."""

    step: int
    score: float
    name: str
    since: int  # number of evaluations after it, none of which was better


def decisive(score: str, prefer: str | None, config: RunConfig) -> tuple[str, bool]:
    """The name that a score during training has there, and whether its largest value is the best.

    Args:
        prefer: "largest" or "smallest"; None: the smallest if 0 is perfect for its evaluator, otherwise the largest.
    """
    options = config.train.evaluate
    evaluator = config.evaluators.get(options.evaluator_of(score) or "")
    smallest = prefer == "smallest" or (prefer is None and evaluator is not None and evaluator.best == 0)
    return f"{options.on}/{score}", not smallest


def best_of(scores: Scored, config: RunConfig) -> Best | None:
    """The best of the evaluations, given as step and scores; None if there is none or if no score decides.

    Evaluations without the score, or in which it is not a number, do not count.
    """
    stop, found = config.train.stop, None
    if stop.by is None:
        return None
    name, largest = decisive(stop.by, stop.prefer, config)
    sign = 1 if largest else -1
    for step, values in scores:
        score = values.get(name, math.nan)
        if math.isnan(score):
            continue
        if found is None or sign * (score - found.score) > stop.improvement:
            found = Best(step, score, name, since=0)
        else:
            found = found._replace(since=found.since + 1)
    return found
