from sslx.api import JointEmbedding


class SimCLR(JointEmbedding, objective="info-nce"):
    """Views of the same image attract each other and all other views repel each other (Chen et al. 2020)."""
