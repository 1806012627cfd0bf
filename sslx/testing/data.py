"""Checks of datasets, loaders and view policies."""

import random
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from sslx.core.data import Split, pixels
from sslx.core.errors import DataError
from sslx.core.training.run import default_data_dir
from sslx.testing.components import N, Subject, check, same
from sslx.testing.expect import seeded


def _halves(subject: Subject) -> tuple[Split, Split]:
    folder = default_data_dir()
    try:
        return subject.make().halves(folder, True)
    except DataError as error:
        if str(folder) not in str(error):  # the error of missing files says where they were sought
            raise
        raise SkipTest(str(error)) from error


def _read(split: Split, k: int = 64) -> Tensor:
    return split.images[torch.arange(min(k, len(split)))]


@check("dataset")
def declared_facts_hold(subject: Subject) -> None:
    """Images, labels and factors have the shapes and types that Split documents, the same in both halves."""
    facts = []
    for split in _halves(subject):
        images, labels = _read(split), split.labels
        declared = split.images.dtype, split.images.shape[1:]
        assert (images.dtype, images.shape[1:]) == declared, f"images are not of the declared type and shape {declared}"
        assert images.isfinite().all(), "images are not finite"
        if labels is not None:
            assert labels.dtype == torch.int64 and labels.shape == (len(split),), "labels are not (n,) int64"
        wrong = [name for name, values in split.factors.items() if values.shape != (len(split),)]
        assert not wrong, f"factors that are not (n,): {', '.join(wrong)}"
        facts.append((labels is not None, {name: values.dtype for name, values in split.factors.items()}))
    assert facts[0] == facts[1], f"labels and factors of the halves differ: {facts[0]} and {facts[1]}"


@check("dataset")
def loads_the_same_every_time(subject: Subject) -> None:
    """Images and labels are the same whatever the state of torch's generator, which stays as it was."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = _halves(subject)
    assert torch.get_rng_state().equal(before), "loading draws from torch's generator"
    for one, other in zip(first, seeded(2, _halves, subject), strict=True):
        assert same((len(one), _read(one)), (len(other), _read(other))), "the images differ the second time"
        assert same(one.labels, other.labels), "the labels differ the second time"


@check("dataset")
def fresh_images_are_a_function_of_the_epoch(subject: Subject) -> None:
    """A dataset that makes new images for each epoch makes the same ones for the same epoch."""
    train, _ = _halves(subject)
    if train.fresh is None:
        raise SkipTest("the images are the same in every epoch")
    first, again, other = train.fresh(0, 1), train.fresh(0, 1), train.fresh(0, 2)
    assert first.shape == train.images.shape and first.equal(again), "the images of an epoch differ the second time"
    assert not first.equal(other), "all epochs have the same images"


@check("loader")
def brings_the_images_asked_for(subject: Subject) -> None:
    """The images arrive in the requested order, batch by batch, and again in another order."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, *subject.image_shape), generator=generator).byte()
    loader = subject.make()
    loader.open(Split(images), torch.device("cpu"))
    for seed in (1, 2):
        indices = torch.randperm(40, generator=torch.Generator().manual_seed(seed)).split(12)
        found = [batch.clone() for batch in loader.batches(indices)]
        assert same(found, [images[index] for index in indices]), "the images are wrong"


def _views(subject: Subject, index: Tensor, epoch: int = 0) -> Any:
    policy = subject.make()
    images = torch.randint(0, 256, (N, *subject.image_shape), generator=torch.Generator().manual_seed(0)).byte()
    return policy.count, images, policy(images[index], index, seed=3, epoch=epoch)


@check("views")
def views_have_the_promised_shapes(subject: Subject) -> None:
    """The views are finite floats (N, J, C, h, w), next to the images themselves and their positions."""
    count, images, views = _views(subject, torch.arange(N))
    assert views.x.ndim == 5 and views.x.shape[:3] == (N, count, images.shape[1]), f"x is {tuple(views.x.shape)}"
    assert views.x.is_floating_point() and views.x.isfinite().all(), "x is not finite"
    torch.testing.assert_close(views.original, pixels(images))
    assert views.index.equal(torch.arange(N)), "index differs from the positions that were given"
    if (local := views.local) is not None:
        assert local.ndim == 5 and len(local) == N and local.isfinite().all(), "local is not finite (N, K, C, h, w)"


@check("views")
def views_are_a_function_of_seed_epoch_and_image(subject: Subject) -> None:
    """The views of an image are the same in any batch and order, and the generators of torch and Python unchanged."""
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate()
    _, _, whole = _views(subject, torch.arange(N), epoch=2)
    x = whole.x.clone()
    assert same((torch.get_rng_state(), random.getstate()), before), "the policy draws from a global generator"
    order = torch.tensor([5, 0, 3])
    _, _, some = seeded(2, lambda: _views(subject, order, epoch=2))
    torch.testing.assert_close(some.x, x[order], rtol=0, atol=1e-6)
