"""JEM."""

from __future__ import annotations

from sslx.ssl_methods.gedi_ablations import AsPrinted


class JEM(AsPrinted, invariance_weight=0.0, prior_weight=0.0):
    """L_GEN alone: the energy model of Grathwohl et al. 2020 without labels."""
