"""SimSiam."""

from __future__ import annotations

from sslx.ssl_methods.joint_embedding import JointEmbedding


class SimSiam(JointEmbedding, predictor=(64, 128), target="stopped", objective="cosine"):
    """h(z) predicts the embedding of another view, whose gradient is stopped (Chen & He 2021, Eq. 1 to 4).

    The predictor is a bottleneck, as in the paper (2048-512-2048); the paper also normalises the output of g.
    """
