"""The linear probe, which tells the classes apart by hyperplanes."""

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sslx.api import ConfigError, Evaluation, Evaluator, Result, Use, option, permutation
from sslx.evaluators import logistic
from sslx.evaluators.common import draw, finite, labels, places, without_classes

_LARGEST = 1e15  # squares of larger features, summed over D, leave float32
_FALL = 3.0  # standard errors by which the held-out accuracy is below the best one when the search ends


class Linear(Evaluator):
    """Logistic regression on the frozen representation of the full clean training set (L-BFGS, on the run's device).

    The strength of its L2 penalty is chosen on a held-out part of the training set, which keeps at least one image of
    each class in the rest. The candidates are tried from the strongest penalty to the weakest, each from the solution
    of the one before, until the held-out accuracy has clearly fallen. Then the probe is trained on all images.

    The problem is convex: for each C the score does not depend on a learning rate, an order or a seed.

    Scores:
        linear: test accuracy. A test label that the training set lacks counts as an error.
        linear-best-on-test: the highest test accuracy of all candidates, each trained on all images. It is optimistic,
            and only there if `best_on_test` asks for it.
        linear-N-shot: the same as `linear` with N training images of each class, for each N of `shots`. C is chosen
            among these alone. The mean over draws.
        linear-P-percent: the same with a part of the training images of each class, for each part of `fraction`.
    """

    best = 1.0
    floors = True

    c: float | tuple[float, ...] = option(
        default=(1e-4, 5e-4, 2e-3, 0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 100.0),
        gt=0,
        help="Inverse strength of the L2 penalty, as in scikit-learn, or candidates for it, of which a held-out part "
        "of the training set chooses one.",
    )
    held_out: float = option(default=0.2, gt=0, lt=1, help="Part of the training set that chooses C.")
    standardize: bool = option(default=True, help="Whether each dimension is scaled to variance 1 in training.")
    tolerance: float = option(
        default=1e-8, gt=0, help="Estimated distance of the objective from its minimum at the end, as a part of it."
    )
    search: float = option(
        default=3e-4, gt=0, help="The tolerance while C is chosen; accuracies move by less than their own noise."
    )
    max_iter: int = option(default=1000, gt=0, help="Maximum number of iterations of L-BFGS for each C.")
    best_on_test: bool = option(default=False, help="Whether to score the C that is best on the test set as well.")
    shots: int | tuple[int, ...] = option(
        default=(), gt=0, help="Numbers of training images of each class, with a score for each."
    )
    fraction: float | tuple[float, ...] = option(
        default=(), gt=0, lt=1, help="Parts of the training images of each class, with a score for each."
    )
    repeats: int = option(default=5, ge=2, help="Number of draws of these few images, of which scores are the mean.")

    def __attrs_post_init__(self) -> None:
        if self.c == ():
            raise ConfigError("c: expected a number or at least one candidate")

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, q = (x.to(evaluation.device) for x in finite(evaluation, largest=_LARGEST))
        known, truths = labels(evaluation)
        seed = evaluation.seed

        accuracy, facts = self._probe(z, known, q, truths, evaluation.heed, seed, self.best_on_test)
        scores = {"linear": accuracy}
        protocol = {
            "trained_on": len(z),
            "tested_on": len(q),
            "dimensions": z.shape[1],
            "classes": len(known.unique()),
            "probe": "logistic regression, L2 penalty on all but the intercept, L-BFGS",
            "features": "standardized" if self.standardize else "centred",
            "tolerance": self.tolerance,
            "search": self.search,
            "max_iter": self.max_iter,
            **facts,
        }
        summary = f"logistic regression on {len(z)} training images with C={facts['c']:g}, "
        summary += "chosen on {held_out} held-out training images".format(**facts) if "held_out" in facts else "fixed"
        if not facts["converged"]:
            summary += " (not converged)"
        if self.best_on_test:
            scores["linear-best-on-test"] = max(facts["test_accuracies"].values())
            summary += "; linear-best-on-test chooses C on the test set (optimistic)"

        amounts = {f"linear-{n}-shot": n for n in _listed(self.shots)}
        amounts |= {f"linear-{100 * part:g}-percent": part for part in _listed(self.fraction)}
        for name, amount in amounts.items():
            values, chosen = [], []
            for repeat in range(self.repeats):
                evaluation.heed()
                few = draw(known, amount, seed, repeat)
                accuracy, facts = self._probe(z[few.to(z.device)], known[few], q, truths, evaluation.heed, seed)
                values.append(accuracy)
                chosen.append(facts["c"])
            scores[name] = statistics.mean(values)
            protocol[name] = {
                "trained_on": len(few),
                "draws": values,
                "standard_error": statistics.stdev(values) / math.sqrt(self.repeats),
                "c": chosen,
                "seed": seed,
            }
        if amounts:
            summary += f"; few images are the mean of {self.repeats} balanced draws"
        return Result(scores, protocol, summary)

    def _candidates(self) -> list[float]:
        return sorted(set(_listed(self.c)))

    def _probe(
        self,
        z: Tensor,
        known: Tensor,
        q: Tensor,
        truths: Tensor,
        heed: Callable[[], None],
        seed: int,
        best_on_test: bool = False,
    ) -> tuple[float, dict[str, Any]]:
        """The test accuracy of a probe trained on z (n, D), and how it was obtained."""
        z, q = _scaled(z, q, self.standardize)
        classes, codes = known.unique(return_inverse=True)
        codes = codes.to(z.device)
        curvature = logistic.Curvature(z)
        fit = partial(logistic.fit, classes=len(classes), curvature=curvature, max_iter=self.max_iter, heed=heed)

        def accuracy(found: logistic.Fit) -> float:
            predicted = classes[logistic.predict(found.weights, q, len(classes)).cpu()]
            return (predicted == truths).double().mean().item()

        c, start, facts = self._choose(z, codes, len(classes), partial(fit, tolerance=self.search), seed)
        found = fit(z, codes, c=c, start=start, tolerance=self.tolerance)
        facts |= {
            "c": c,
            "objective": logistic.objective(z, codes, len(classes), found.weights, c),
            "iterations": found.iterations,
            "converged": found.converged,
        }
        if best_on_test:
            weights, accuracies = None, dict[str, float]()
            for candidate in self._candidates():
                each = fit(z, codes, c=candidate, start=weights, tolerance=self.tolerance)
                weights, accuracies[f"{candidate:g}"] = each.weights, accuracy(each)
            facts["test_accuracies"] = accuracies
        return accuracy(found), facts

    def _choose(
        self, z: Tensor, codes: Tensor, classes: int, fit: Callable[..., logistic.Fit], seed: int
    ) -> tuple[float, Tensor | None, dict[str, Any]]:
        """The C that is best on the held-out part, the smallest of equals, with its weights and how it was found."""
        candidates = self._candidates()
        if len(candidates) == 1:
            return candidates[0], None, {}
        order = permutation(len(z), Use.EVALUATION, seed)
        spare = places(codes.cpu()[order]) > 0  # the first image of each class stays in the rest
        held = spare & (spare.cumsum(0) <= math.ceil(self.held_out * len(z)))
        held_out, rest = order[held].to(z.device), order[~held].to(z.device)
        facts: dict[str, Any] = {"held_out": len(held_out), "held_out_seed": seed, "candidates": []}
        if not len(held_out):
            return min(candidates, key=lambda c: abs(math.log(c))), None, facts  # as good as any
        x, y, asked, truths = z[rest], codes[rest], z[held_out], codes[held_out]
        best, start = None, None
        for c in candidates:
            found = fit(x, y, c=c, start=start)
            start = found.weights
            right = logistic.predict(start, asked, classes) == truths
            facts["candidates"].append(
                {"c": c, "held_out_accuracy": right.double().mean().item(), "iterations": found.iterations}
            )
            if best is None or right.sum() > best.sum():
                best, chosen = right, (c, start)
            elif (best.sum() - right.sum()).item() > _FALL * math.sqrt((best != right).sum().item()):
                break
        return *chosen, facts


def _listed(numbers: Any) -> tuple[Any, ...]:
    return numbers if isinstance(numbers, tuple) else (numbers,)


def _scaled(train: Tensor, test: Tensor, standardize: bool) -> tuple[Tensor, Tensor]:
    """Both sets with mean 0 in training, and variance 1 if asked. Constant dimensions become 0."""
    mean = train.mean(dim=0, dtype=torch.float64).float()
    z, q = train - mean, test - mean
    if standardize:
        scale = (torch.linalg.vector_norm(z, dim=0, dtype=torch.float64) / math.sqrt(len(z))).float()
        scale[scale == 0] = 1
        z, q = z / scale, q / scale
    return z, q
