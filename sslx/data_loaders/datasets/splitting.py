"""Test sets for datasets that have none."""

import torch

from sslx.api import Split, Use, permutation


def halve(whole: Split) -> tuple[Split, Split]:
    """Training and test half: every fifth image of each class, in a fixed random order, is for testing.

    The count runs on from class to class, so that small classes have test images too. The only image of a class, or of
    the whole, is for training; so the test half may be empty. The halves do not depend on the seed of the run, so that
    runs of several seeds have the same test set.
    """
    order = permutation(len(whole), Use.SUBSET, 0)
    if whole.labels is not None:
        order = order[whole.labels[order].argsort(stable=True)]
    test = torch.zeros(len(whole), dtype=torch.bool)
    test[order[::5]] = True
    labels = torch.zeros(len(whole), dtype=torch.int64) if whole.labels is None else whole.labels
    test &= (labels.bincount() > 1)[labels]
    return whole.take(~test), whole.take(test)
