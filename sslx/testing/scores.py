"""Checks of evaluators, on images of which everything is known."""

from __future__ import annotations

import json
import math
from typing import Any
from unittest import SkipTest

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.core.data import Split
from sslx.core.interfaces import Method
from sslx.core.training.config import configure
from sslx.core.training.evaluation import evaluate
from sslx.testing.components import Subject, same, state_of

_CLASSES, _SIZE = 4, 8


def _split(n: int, seed: int) -> Split:
    """Grey images with one quarter lit: the class says which, the factor `shade` how brightly."""
    generator = torch.Generator().manual_seed(seed)
    y, shade = torch.arange(n) % _CLASSES, 0.4 + 0.6 * torch.rand(n, generator=generator)
    x = 0.02 * torch.rand(n, 1, _SIZE, _SIZE, generator=generator)
    half = _SIZE // 2
    lit = x.view(n, 2, half, 2, half).transpose(2, 3)  # the four quarters, in place
    lit[torch.arange(n), y // 2, y % 2] += 0.8 * shade[:, None, None]
    return Split((255 * x).byte(), y, {"shade": shade})


class _Known(Method):
    """A method whose representation and clusters are given, not learned."""

    def represent(self, x: Tensor) -> Tensor:
        brightness = F.avg_pool2d(x[:, :1], _SIZE // 2).flatten(1)  # (B, 4)
        shade, y = brightness.max(dim=1)
        return torch.cat([F.one_hot(y, _CLASSES), shade[:, None]], dim=1).float()

    def cluster(self, x: Tensor) -> Tensor:
        return (20 * self.represent(x)[:, :_CLASSES]).log_softmax(dim=1)


class _Perfect(_Known):
    """Knows the class and the shade, and nothing else."""


class _Random(_Known):
    """A hash of the image's noise."""

    def represent(self, x: Tensor) -> Tensor:
        weights = torch.randn(_SIZE * _SIZE, _CLASSES + 1, generator=torch.Generator().manual_seed(5))
        return (1e4 * x[:, 0].flatten(1) @ weights).sin()


class _Constant(_Known):
    """The same for all images."""

    def represent(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), _CLASSES + 1)


def _report(subject: Subject, method: Method) -> dict[str, Any]:
    data = _split(400, 0), _split(200, 1)
    views = configure({"method": "random"}).views
    found = evaluate({"it": subject.make()}, method, data, views, torch.device("cpu"), 0, lambda _: data)["it"]
    if "skipped" in found:
        raise SkipTest(found["skipped"])
    assert "failed" not in found, found.get("traceback")
    return dict(found)


def _headline(subject: Subject, method: Method) -> float:
    return float(next(iter(_report(subject, method)["scores"].values())))


def _best(cls: Any) -> float:
    if cls.best is None:
        raise SkipTest("it does not say what its best score is")
    return float(cls.best)


def scores_have_a_protocol(subject: Subject) -> None:
    """Finite numbers by name, a protocol that goes into results.json, and a line for the table."""
    report = _report(subject, _Perfect())
    assert report["scores"], "no scores"
    bad = [name for name, score in report["scores"].items() if not math.isfinite(score)]
    assert not bad, f"scores that are not finite: {', '.join(bad)}"
    assert json.loads(json.dumps(report["protocol"])) and report["protocol"], "no protocol"
    assert report["summary"] and "\n" not in report["summary"], "the summary is not one line"


def perfect_features_score_best(subject: Subject) -> None:
    """To a tenth of what lies between the best score and that of a representation that is the same for all images."""
    best, chance = _best(subject.cls), _headline(subject, _Constant())
    score = _headline(subject, _Perfect())
    assert abs(score - best) <= 0.1 * abs(best - chance), f"{score:.3f}; best is {best:g}, chance {chance:.3f}"


def random_features_score_chance(subject: Subject) -> None:
    """To a quarter of it, as there are few images."""
    best, chance = _best(subject.cls), _headline(subject, _Constant())
    score = _headline(subject, _Random())
    assert abs(score - chance) <= 0.25 * abs(best - chance), f"{score:.3f}; chance is {chance:.3f}, best {best:g}"


def the_same_every_time(subject: Subject) -> None:
    """Torch is seeded before it: a score depends on the seed of the run alone. The method is left as it was."""
    method = _Random()
    before = state_of(method)
    torch.manual_seed(1)
    first = _report(subject, method)["scores"]
    torch.manual_seed(2)
    again = _report(subject, method)["scores"]
    assert first == again, f"{first} and {again}"
    assert same(state_of(method), before), "it changes the method"


CHECKS = {
    "evaluator": (
        scores_have_a_protocol,
        perfect_features_score_best,
        random_features_score_chance,
        the_same_every_time,
    )
}
