from sslx.api import VAE


class AASAE(VAE, target="original", beta=0.0):
    """Reconstructs an image from a noisy latent of an augmented view, without a prior (AASAE, Eq. 3).

    It minimizes -log p(x|z), z ~ q(z|x⁺), x⁺ an augmented view of x; Eq. 3 lacks the minus sign. The paper's views are
    `views=aasae`. Its networks are `resnet50` with `encoder.posterior.projection=2048` and `encoder.dim=128`, and it
    evaluates `representation=features`.
    """

    defaults = {"views": {"count": 1}}
