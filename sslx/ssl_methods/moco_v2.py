from sslx.ssl_methods.moco import MoCo


class MoCoV2(MoCo, projector=(128, 128), norm="none", objective={"use": "queue-nce", "temperature": 0.2}):
    """MoCo with a projection head of two layers and τ = 0.2 (Chen et al. 2020). Its blur is an option of the views."""
