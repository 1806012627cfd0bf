"""Checks of evaluators, on images whose class and brightness are known."""

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
from sslx.testing.components import Subject, check, same, state_of
from sslx.testing.expect import seeded

_CLASSES, _SIZE = 4, 8


def _split(n: int, seed: int) -> Split:
    """Grey images with one bright quarter. The class says which one, and the factor `shade` how bright it is."""
    generator = torch.Generator().manual_seed(seed)
    y, shade = torch.arange(n) % _CLASSES, 0.4 + 0.6 * torch.rand(n, generator=generator)
    x = 0.02 * torch.rand(n, 1, _SIZE, _SIZE, generator=generator)
    half = _SIZE // 2
    lit = x.view(n, 2, half, 2, half).transpose(2, 3)  # the four quarters, in place
    lit[torch.arange(n), y // 2, y % 2] += 0.8 * shade[:, None, None]
    return Split((255 * x).byte(), y, {"shade": shade})


class _Perfect(Method):
    """A method whose representation is the class and the shade, and whose clusters are the classes."""

    def represent(self, x: Tensor) -> Tensor:
        brightness = F.avg_pool2d(x[:, :1], _SIZE // 2).flatten(1)  # (B, 4)
        shade, y = brightness.max(dim=1)
        return torch.cat([F.one_hot(y, _CLASSES), shade[:, None]], dim=1).float()

    def cluster(self, x: Tensor) -> Tensor:
        return (20 * self.represent(x)[:, :_CLASSES]).log_softmax(dim=1)


class _Random(_Perfect):
    """The representation is a hash of the noise of the image."""

    def represent(self, x: Tensor) -> Tensor:
        weights = torch.randn(_SIZE * _SIZE, _CLASSES + 1, generator=torch.Generator().manual_seed(5))
        return (1e4 * x[:, 0].flatten(1) @ weights).sin()


class _Constant(_Perfect):
    """The representation is the same for all images."""

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


def _score(subject: Subject, method: Method) -> tuple[float, float, float]:
    """The first score of the method, the best one, and that of a representation without information."""
    if subject.cls.best is None:
        raise SkipTest("the evaluator does not say what its best score is")
    mine, chance = (next(iter(_report(subject, m)["scores"].values())) for m in (method, _Constant()))
    return float(mine), float(subject.cls.best), float(chance)


@check("evaluator")
def scores_have_a_protocol(subject: Subject) -> None:
    """There are finite scores by name, a protocol that goes into results.json, and one line for the table."""
    report = _report(subject, _Perfect())
    assert report["scores"], "no scores"
    bad = [name for name, score in report["scores"].items() if not math.isfinite(score)]
    assert not bad, f"scores that are not finite: {', '.join(bad)}"
    assert json.loads(json.dumps(report["protocol"])) and report["protocol"], "no protocol"
    assert report["summary"] and "\n" not in report["summary"], "the summary is not one line"


@check("evaluator")
def perfect_features_score_best(subject: Subject) -> None:
    """Perfect features score best, to a tenth of the distance between the best score and that of equal features."""
    score, best, chance = _score(subject, _Perfect())
    assert abs(score - best) <= 0.1 * abs(best - chance), f"{score:.3f}; best is {best:g}, chance {chance:.3f}"


@check("evaluator")
def random_features_score_chance(subject: Subject) -> None:
    """Random features score as equal ones do, to a quarter of that distance, as there are few images."""
    score, best, chance = _score(subject, _Random())
    assert abs(score - chance) <= 0.25 * abs(best - chance), f"{score:.3f}; chance is {chance:.3f}, best {best:g}"


@check("evaluator")
def the_same_every_time(subject: Subject) -> None:
    """A score depends only on the seed of the run, for which torch is seeded, and the method stays as it was."""
    method = _Random()
    before = state_of(method)
    first, again = (seeded(seed, _report, subject, method)["scores"] for seed in (1, 2))
    assert first == again, f"the scores are {first}, and {again} the second time"
    assert same(state_of(method), before), "the evaluator changes the method"
