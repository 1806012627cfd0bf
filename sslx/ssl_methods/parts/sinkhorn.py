"""Balanced assignments."""

from __future__ import annotations

from torch import Tensor


def sinkhorn(scores: Tensor, iterations: int) -> Tensor:
    """(..., N, K) -> log q, the same shape: rows are distributions, and all K columns get about N/K in sum.

    Cuturi 2013, in logarithms, as exp(score) overflows float32 for sharp scores.
    """
    for _ in range(iterations):
        scores = scores.log_softmax(dim=-2).log_softmax(dim=-1)
    return scores
