"""SimCLR."""

from __future__ import annotations

from sslx.ssl_methods.joint_embedding import JointEmbedding


class SimCLR(JointEmbedding, objective="info-nce"):
    """Related views attract, all others repel (Chen et al. 2020): `info-nce` on projected embeddings."""
