"""AASAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from sslx.api import VAE, option


class AASAE(VAE):
    """-log p(x|z), z ~ q(z|x⁺), x⁺ an augmented view of x: noise and augmentation without a prior (AASAE, Eq. 3).

    Eq. 3 lacks the minus sign. The paper's views are `views=aasae`, its networks the `resnet50` with
    `encoder.posterior.projection=2048` and `encoder.dim=128`, and it evaluates `representation=features`.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"views": {"count": 1}}

    target: Literal["view", "original"] = option(default="original", help="x*, what is to be reconstructed from a view")
    beta: float = option(default=0.0, ge=0, help="β, weight of the divergence of q from the prior")
