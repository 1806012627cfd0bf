from sslx.api import VAE


class AASAE(VAE, target="original", beta=0.0):
    """Reconstructs an image from a noisy latent of an augmented view, without a prior (AASAE, Eq. 3).

        minimize -log p(x|z), z ~ q(z|x⁺), x⁺ an augmented view of x

    Eq. 3 lacks the minus sign. The paper's views are `views=aasae`. Its networks are `resnet50` with
    `encoder.posterior.projection=2048` and `encoder.dim=128`, and it evaluates `representation=features`.

    The official code reconstructs standardized images without an activation and with σ² = 1, from a posterior without a
    bias: `decoder.likelihood.mean=standardized`, `decoder.likelihood.variance=1`, `encoder.posterior.bias=false`. The
    values of β in Figure 3 are for this variance; at the default of 0.02, in units of pixels, the same β means another
    balance. Of CIFAR-10 5000 training images are kept for validation, and 5000 of STL-10: `--set validation=5000`.
    """

    defaults = {"views": {"count": 1}}
