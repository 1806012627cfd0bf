"""AAAE."""

from __future__ import annotations

from typing import Literal

from sslx.api import Autoencoder, option


class AAAE(Autoencoder):
    """An autoencoder that undoes the augmentation: the target is the image before it was augmented (AASAE, Table 1).

    The official code reconstructs the augmented image itself: that is `target=view`.
    """

    target: Literal["view", "original"] = option(default="original", help="x*, what is to be reconstructed from a view")
