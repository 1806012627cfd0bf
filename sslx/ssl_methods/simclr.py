"""SimCLR."""

from __future__ import annotations

from sslx.api import JointEmbedding


class SimCLR(JointEmbedding, objective="info-nce"):
    """Related views attract, all others repel (Chen et al. 2020): `info-nce` on projected embeddings."""
