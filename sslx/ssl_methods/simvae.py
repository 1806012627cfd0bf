"""SimVAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sslx.api import Prior, slot
from sslx.ssl_methods.vae import VAE


class SimVAE(VAE):
    """The VAE whose related views come from one cluster with its mean integrated out (SimVAE, Eq. 6 and A.7.1).

    The paper has J = 10, 128 views a step and a learning rate of 8e-5 for 400 epochs; J = 4 and 1e-3 get further in
    the minutes that a CPU affords.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"views": {"count": 4}, "train": {"batch_size": 32}}

    prior: Prior = slot(default="shared-mean", help="p(z¹…zᴶ|y)")
