"""SimCLR."""

from __future__ import annotations

from sslx.api import Objective, slot
from sslx.ssl_methods.joint_embedding import JointEmbedding


class SimCLR(JointEmbedding):
    """Related views attract, all others repel (Chen et al. 2020): `info-nce` on projected embeddings."""

    objective: Objective = slot(default="info-nce", help="what is minimised")
