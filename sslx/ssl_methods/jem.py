from sslx.ssl_methods.gedi_ablations import AsPrinted


class JEM(AsPrinted, invariance_weight=0.0, prior_weight=0.0):
    """An energy-based model of images: L_GEN of GEDI alone (Grathwohl et al. 2020, without labels).

    On points GEDI's paper gives it ten steps of the sampler, `energy.steps=10`, and GEDI one (App. K). Points recommend
    one to all methods.
    """
