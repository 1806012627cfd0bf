from typing import Literal

from sslx.api import Autoencoder, option


class AAAE(Autoencoder):
    """An autoencoder that undoes augmentation: its target is the image before it was augmented (AASAE, Table 1).

    The official code reconstructs the augmented image instead, which is `target=view`.
    """

    target: Literal["view", "original"] = option(default="original", help="Image to reconstruct from a view (x*).")
