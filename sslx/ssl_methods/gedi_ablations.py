"""GEDI without each of its terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sslx.ssl_methods.gedi import GEDI


class NoGen(GEDI, energy=None):
    """GEDI without L_GEN: clustering alone."""


class AsPrinted(GEDI):
    """What the paper compares GEDI with has no penalty on f, which GEDI has on points here.

    With it logits share the curves by themselves, and little is left for the missing term to do.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"method": {"energy": {"magnitude": 0.0}}}


class NoInv(AsPrinted, invariance_weight=0.0):
    """GEDI without L_INV, which is still recorded, nor a penalty on f."""


class NoPrior(AsPrinted, prior_weight=0.0):
    """GEDI without L_PRIOR, which is still recorded, nor a penalty on f."""
