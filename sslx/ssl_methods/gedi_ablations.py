from sslx.ssl_methods.gedi import GEDI


class NoGen(GEDI, energy=None):
    """GEDI without L_GEN: clustering alone."""


class AsPrinted(GEDI):
    """GEDI without a penalty on f, which the ablations of the paper do not have either.

    On points GEDI uses such a penalty here. It alone separates the curves, so an ablation with it would show nothing.
    """

    defaults = {**GEDI.defaults, "method": {"energy": {"magnitude": 0.0}}}


class NoInv(AsPrinted, invariance_weight=0.0):
    """GEDI without L_INV, which is still recorded, and without a penalty on f."""


class NoPrior(AsPrinted, prior_weight=0.0):
    """GEDI without L_PRIOR, which is still recorded, and without a penalty on f."""
