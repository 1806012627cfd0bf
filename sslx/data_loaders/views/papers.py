"""The view policies of the papers, which are the standard policy with other defaults."""

from sslx.data_loaders.views.standard import Standard


class SimVAEGrey(Standard, count=10, crop=(0.4, 1.0), ratio=(0.75, 1.3), vflip=0.5):
    """SimVAE on MNIST and Fashion-MNIST, as in its code: with a vertical flip, without a horizontal one.

    Its code also binarizes the views of MNIST: `views.binarize=true`.
    """


class SimVAEColour(SimVAEGrey, crop=(0.6, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, jitter=0.8):
    """SimVAE on CIFAR-10 and CelebA, with the jitter probability of Table 2 (0.8; the code always jitters)."""


# The noise is 0.03 in Table 9. JEM's code adds it to pixels in [-1, 1], and here pixels are in [0, 1]. So the step size
# and the noise of the sampler `sgld` are converted as well.
class GEDI(
    Standard, pad=4, hflip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, jitter=0.1, grey=0.1, noise=0.015
):
    """GEDI on CIFAR. The code it builds on jitters before it crops; here the crop comes first, as in all policies.

    The paper's noise of 0.03 is meant for pixels in [-1, 1], so it is 0.015 here.
    """


class GEDIDigits(GEDI, hflip=0.0):
    """GEDI on SVHN, without flips, because a mirrored digit is not a digit.

    For MNIST the paper has a noise of 0.2, which is `noise=0.1` here.
    """


class SimCLR(
    Standard, crop=(0.08, 1.0), hflip=0.5, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, jitter=0.8, grey=0.2,
    blur=0.5,
):  # fmt: skip
    """SimCLR on ImageNet, and AASAE on ImageNet and STL-10."""


class SimCLRCifar(SimCLR, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.0):
    """SimCLR on CIFAR-10 (appendix B.9): half the colour strength and no blur."""


class AASAE(SimCLRCifar, count=1):
    """AASAE on CIFAR-10: half of SimCLR's colour strength and no blur."""


class BYOL(SimCLRCifar, saturation=0.2, blur=(1.0, 0.1), solarise=(0.0, 0.2)):
    """BYOL on ImageNet (Table 6). The two branches have different probabilities of blur and solarization."""


class DINO(
    BYOL, crop=(0.4, 1.0),
    local={
        "use": "standard", "count": 8, "size": 96, "crop": (0.05, 0.4), "hflip": 0.5, "brightness": 0.4,
        "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter": 0.8, "grey": 0.2, "blur": 0.5,
    },
):  # fmt: skip
    """DINO on ImageNet: BYOL's colours, two views of at least 0.4 of the image and eight of at most 0.4."""
