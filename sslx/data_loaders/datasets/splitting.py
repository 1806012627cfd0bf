"""Test sets for datasets that have none."""

import torch

from sslx.api import Split, Use, permutation


def halve(whole: Split) -> tuple[Split, Split]:
    """Training and test half: every fifth image of each class, in a fixed random order, is for testing.

    The halves do not depend on the seed of the run, so that runs of several seeds have the same test set.
    """
    order = permutation(len(whole), Use.SUBSET, 0)
    if whole.labels is not None:
        order = order[whole.labels[order].argsort(stable=True)]
    test = torch.zeros(len(whole), dtype=torch.bool)
    test[order[::5]] = True
    return whole.take(~test), whole.take(test)
