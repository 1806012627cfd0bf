from sslx.api import JointEmbedding


class BYOL(JointEmbedding, predictor=(128, 128), target="teacher", momentum=(0.99, 1.0), objective="cosine"):
    """Predicts the embedding of another view by a moving average of the network (Grill et al. 2020).

    q(g(f(x))) predicts g'(f'(x')). The paper has heads of 4096-256 and m₀ = 0.996 for a million steps; a few thousand
    steps need a faster teacher. All ordered pairs of views count equally, so the loss is half of the paper's.
    """
