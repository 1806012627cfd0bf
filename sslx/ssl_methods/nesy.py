from sslx.ssl_methods.gedi import GEDI


class NeSy(
    GEDI, encoder={"use": "cnn", "dim": 64}, projector=(), energy=None, constraint="addition", balance_weight=0.0
):  # fmt: skip
    """Learns the classes of images from a rule that they obey, by L_NESY of GEDI alone.

    The rule alone lets the classes collapse: calling every image a zero satisfies 0 + 0 = 0, whatever the images show.
    The rule then holds with probability 1, and the network has learned nothing. With `balance_weight=400`, L_PRIOR
    makes the classes about equally frequent, which rules this answer out: it is GEDI with a constraint and without
    L_GEN. The default is 0, as in the paper's Table 6, whose scores are those of a collapse.

    The paper's network is a ResNet, `encoder=resnet8` with `encoder.dim=0` and `projector=256,128`. Its digits have
    three equal channels and are padded to 32 pixels; here they have one channel and 28 pixels. It is scored on the test
    set of MNIST, `--eval-dataset mnist`, whose classes are about equally frequent, unlike the digits of sums.
    """

    defaults = {**GEDI.defaults, "views": {"count": 1}}
