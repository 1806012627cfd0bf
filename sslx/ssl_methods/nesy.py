from sslx.ssl_methods.gedi import GEDI


class NeSy(
    GEDI, encoder={"use": "cnn", "dim": 64}, projector=(), energy=None, constraint="addition", balance_weight=0.0
):  # fmt: skip
    """Learns the classes of images from a rule that they obey, by L_NESY of GEDI alone.

    A trivial answer satisfies some rules best, such as 0 + 0 = 0. `balance_weight=400` adds L_PRIOR, which prevents it:
    this is GEDI with a constraint and without L_GEN.
    """

    defaults = {**GEDI.defaults, "views": {"count": 1}}
