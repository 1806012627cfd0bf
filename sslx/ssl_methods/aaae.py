from sslx.api import Autoencoder


class AAAE(Autoencoder, target="original"):
    """An autoencoder that undoes augmentation: its target is the image before it was augmented (AASAE, Table 1).

    The official code reconstructs the augmented image instead, which is `target=view`.
    """
