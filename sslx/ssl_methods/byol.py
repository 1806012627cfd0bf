"""BYOL."""

from __future__ import annotations

from sslx.api import JointEmbedding


class BYOL(
    JointEmbedding, predictor=(128, 128), target="teacher", momentum=(0.99, 1.0), objective="cosine"
):  # fmt: skip
    """q(g(f(x))) predicts the embedding g'(f'(x')) that a moving average makes of another view (Grill et al. 2020).

    The paper has heads of 4096-256 and m₀ = 0.996 for a million steps; a few thousand need a faster teacher. All
    ordered pairs of views count equally, so the loss is half of the paper's symmetric sum.
    """
