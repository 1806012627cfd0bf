"""Logistic regression, by L-BFGS in torch on any device."""

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_MEMORY = 10  # pairs of L-BFGS
_SAMPLE = 4096  # images from which the curvature is estimated
_WIDE = 1024  # dimensions beyond which all eigenvectors cost more than they save
_RANK = 256  # of them that are taken then
_ELEMENTS = 1 << 27  # of a block of probabilities on a GPU: 0.5 GB
_ROWS = 4096  # of a block on the CPU, which then stays in its cache


class Fit(NamedTuple):
    """A solution. The last column of the weights is the intercept. Two classes have one row, of their difference."""

    weights: Tensor  # (classes or 1, D + 1) float64
    iterations: int
    converged: bool


class Curvature:
    """An approximate inverse of the objective's Hessian, which is what makes few iterations enough.

    The Hessian of the mean loss is the mean of (diag(p) - ppᵀ) ⊗ xxᵀ over the images. Were it the product of the means
    of both factors, it would be diagonal in the eigenvectors of these. So its diagonal is taken in that basis (as in
    EKFAC, George et al. 2018), from a sample of the images.

    Args:
        x: features (n, D) whose mean is about 0.
    """

    def __init__(self, x: Tensor) -> None:
        n, dimensions = x.shape
        self.sample = x[:: math.ceil(n / _SAMPLE)]
        few = self.sample.double()
        if dimensions > _WIDE:
            few = few[:: math.ceil(len(few) / _RANK)]
        if dimensions <= len(few):
            basis = torch.linalg.eigh(few.T @ few)[1]
        else:
            values, vectors = torch.linalg.eigh(few @ few.T)
            kept = values > 1e-10 * values[-1].clamp(min=1e-300)
            basis = few.T @ (vectors[:, kept] / values[kept].sqrt())
        self.basis = basis.to(x.dtype)
        self.squares = (self.sample @ self.basis).square()
        # The mean square in a direction orthogonal to the basis, if there is one.
        left = (self.sample.square().sum(dim=1) - self.squares.sum(dim=1)).clamp(min=0)
        self.outside = left / max(1, dimensions - self.basis.shape[1])

    def inverse(self, outputs: Tensor, decay: float) -> Callable[[Tensor], Tensor]:
        """The product of the approximate inverse with a gradient, (outputs, D + 1).

        Args:
            outputs: the probabilities of the sample, (outputs, n).
        """
        n = outputs.shape[1]
        turn = torch.linalg.eigh((outputs.mean(1).diag() - outputs @ outputs.T / n).double())[1].to(outputs.dtype)
        curvature = (turn.T.square() @ outputs - (turn.T @ outputs).square()).clamp(min=0)
        inside = 1 / (curvature @ self.squares / n + decay)
        outside = 1 / (curvature @ self.outside / n + decay)[:, None]
        intercept = 1 / (curvature.mean(1) + 1e-9)

        def apply(gradient: Tensor) -> Tensor:
            q = turn.T @ gradient.to(turn.dtype)
            w = q[:, :-1]
            w = outside * w + ((w @ self.basis) * (inside - outside)) @ self.basis.T
            return (turn @ torch.cat([w, (intercept * q[:, -1])[:, None]], dim=1)).double()

        return apply


def fit(
    x: Tensor,
    codes: Tensor,
    classes: int,
    c: float,
    *,
    start: Tensor | None = None,
    curvature: Curvature | None = None,
    tolerance: float = 1e-8,
    max_iter: int = 1000,
    heed: Callable[[], None] = lambda: None,
) -> Fit:
    """Minimize C Σ loss + ½‖W‖² over weights and an intercept without penalty, as scikit-learn does.

    The loss is the cross-entropy of softmax(Wx + b). With two classes it is that of one logit, as in scikit-learn.

    Args:
        x: features (n, D) whose mean is about 0, float32 or float64. Sums over images and weights are float64.
        codes: classes of the images, (n,) int64, 0 <= code < classes.
        c: inverse strength of the penalty (C).
        start: weights to start from, such as those for another C.
        curvature: that of `x` or of similar features, to compute it once for several calls.
        tolerance: the iterations end when the objective is, by its estimated curvature, this close to its minimum, as
            a part of the minimum.
        heed: called before each iteration, which it may end by raising.
    """
    n, dimensions = x.shape
    curvature = curvature or Curvature(x)
    outputs = 1 if classes == 2 else classes
    decay = 1 / (c * n)  # of the mean loss
    w = x.new_zeros(outputs, dimensions + 1, dtype=torch.float64) if start is None else start
    pairs: deque[_Pair] = deque(maxlen=_MEMORY)
    value, gradient = _objective(x, codes, classes, w, decay)
    look = 0
    for iteration in range(max_iter + 1):
        heed()
        if iteration == look:  # 0, 4, 16, 64, ...
            look = max(4, 4 * look)
            probabilities = _log_probabilities(w, curvature.sample, classes).exp()[classes - outputs :]
            inverse = curvature.inverse(probabilities, decay)
            pairs.extend([pair._replace(hy=inverse(pair.y)) for pair in pairs])
            h = inverse(gradient)
        direction = -_times_hessian_inverse(gradient, h, pairs)
        slope = _dot(direction, gradient).item()
        converged = -slope / 2 <= tolerance * value
        if converged or iteration == max_iter:
            break
        # The objective is convex, so the slope says where its minimum on the line is. Unlike the value, the slope does
        # not drown in rounding errors near the minimum.
        step = 1.0
        for _ in range(10):
            ahead = w + step * direction
            value, next_gradient = _objective(x, codes, classes, ahead, decay)
            there = _dot(direction, next_gradient).item()
            if there <= -slope / 2:
                break
            step *= max(0.1, slope / (slope - there))
        else:
            break  # rounding errors are all that is left of the slope
        s, y = ahead - w, next_gradient - gradient
        next_h = inverse(next_gradient)
        if (product := _dot(s, y)) > 0:
            pairs.append(_Pair(s, y, next_h - h, product))
        w, gradient, h = ahead, next_gradient, next_h
    return Fit(w, iteration, converged)


def objective(x: Tensor, codes: Tensor, classes: int, weights: Tensor, c: float) -> float:
    """What `fit` minimizes, in float64."""
    rows = _rows(x, classes)
    loss = sum(
        -_log_probabilities(weights, part.double(), classes).gather(0, code).sum()
        for part, code in zip(x.split(rows), codes[None].split(rows, dim=1), strict=True)
    )
    return float(c * loss + weights[:, :-1].square().sum() / 2)


def predict(weights: Tensor, x: Tensor, classes: int) -> Tensor:
    """The codes of the likeliest classes, (n,) on the device of x."""
    return torch.cat([_log_probabilities(weights, part, classes).argmax(dim=0) for part in x.split(_rows(x, classes))])


def _rows(x: Tensor, classes: int) -> int:
    return _ROWS if x.device.type == "cpu" else max(_ROWS, _ELEMENTS // classes)


def _log_probabilities(weights: Tensor, x: Tensor, classes: int) -> Tensor:
    """(classes, n): the first of two classes has the logit 0."""
    w = weights.to(x.dtype)
    logits = torch.addmm(w[:, -1:], w[:, :-1], x.T)
    return (F.pad(logits, (0, 0, 1, 0)) if len(w) < classes else logits).log_softmax(dim=0)


def _objective(x: Tensor, codes: Tensor, classes: int, weights: Tensor, decay: float) -> tuple[float, Tensor]:
    """The mean loss plus half the decay times the squared norm of the weights, and its gradient."""
    loss, gradient = weights.new_zeros(()), torch.zeros_like(weights)
    rows = _rows(x, classes)
    for part, code in zip(x.split(rows), codes[None].split(rows, dim=1), strict=True):
        p = _log_probabilities(weights, part, classes)
        right = p.gather(0, code)
        loss -= right.sum(dtype=torch.float64)
        p = p.exp_().scatter_(0, code, right.expm1())[classes - len(weights) :]
        gradient[:, :-1] += p @ part
        gradient[:, -1] += p.sum(dim=1)
    gradient /= len(x)
    if len(weights) > 1:
        gradient -= gradient.mean(dim=0)  # it is 0, but for rounding errors
    w = weights[:, :-1]
    gradient[:, :-1] += decay * w
    return (loss / len(x) + decay / 2 * _dot(w, w)).item(), gradient


class _Pair(NamedTuple):
    s: Tensor  # change of the weights
    y: Tensor  # change of the gradient
    hy: Tensor  # the approximate inverse times y
    product: Tensor  # s · y


def _times_hessian_inverse(gradient: Tensor, h: Tensor, pairs: deque[_Pair]) -> Tensor:
    """The two loops of L-BFGS (Nocedal & Wright 2006, Algorithm 7.4).

    Args:
        h: the approximate inverse times the gradient, on which the pairs improve.
    """
    q, r, factors = gradient, h, list[Tensor]()
    for pair in reversed(pairs):
        factors.append(_dot(pair.s, q) / pair.product)
        q, r = q - factors[-1] * pair.y, r - factors[-1] * pair.hy  # r stays the approximate inverse times q
    if pairs:
        r = r * (pairs[-1].product / _dot(pairs[-1].y, pairs[-1].hy))
    for pair, factor in zip(pairs, reversed(factors), strict=True):
        r = r + (factor - _dot(pair.y, r) / pair.product) * pair.s
    return r


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()
