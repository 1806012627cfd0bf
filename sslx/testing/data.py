"""Checks of datasets, of loaders and of policies of views."""

from __future__ import annotations

import random
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from sslx.core.data import Split, pixels
from sslx.core.errors import DataError
from sslx.core.training.run import default_data_dir
from sslx.testing.components import N, Subject


def _halves(subject: Subject) -> tuple[Split, Split]:
    folder = default_data_dir()
    try:
        return subject.make().halves(folder, True)
    except DataError as error:
        if str(folder) not in str(error):  # it says where it looked, if nothing is there
            raise
        raise SkipTest(str(error)) from error


def _read(split: Split, k: int = 64) -> Tensor:
    return split.images[torch.arange(min(k, len(split)))]


def declared_facts_hold(subject: Subject) -> None:
    """Images, labels and factors are of the shapes and types that Split says, alike in both halves."""
    train, test = _halves(subject)
    for split in (train, test):
        images = _read(split)
        assert images.dtype == split.images.dtype and images.shape[1:] == split.images.shape[1:], "images differ"
        assert images.isfinite().all() if images.is_floating_point() else True, "images are not finite"
        if split.labels is not None:
            assert split.labels.dtype == torch.int64 and split.labels.shape == (len(split),), (
                "labels are not (n,) int64"
            )
        wrong = [name for name, values in split.factors.items() if values.shape != (len(split),)]
        assert not wrong, f"factors that are not (n,): {', '.join(wrong)}"
    kinds = [{name: values.dtype for name, values in split.factors.items()} for split in (train, test)]
    assert kinds[0] == kinds[1], f"the factors of the halves differ: {kinds[0]} and {kinds[1]}"
    assert (train.labels is None) == (test.labels is None), "one half has labels, the other has none"


def loads_the_same_every_time(subject: Subject) -> None:
    """Whatever torch's generator says, which it leaves as it was."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = _halves(subject)
    assert torch.get_rng_state().equal(before), "it draws from torch's generator"
    torch.manual_seed(2)
    second = _halves(subject)
    for one, other in zip(first, second, strict=True):
        assert len(one) == len(other) and _read(one).equal(_read(other)), "other images the second time"
        if one.labels is not None and other.labels is not None:
            assert one.labels.equal(other.labels), "other labels the second time"


def fresh_images_are_a_function_of_the_epoch(subject: Subject) -> None:
    train, _ = _halves(subject)
    if train.fresh is None:
        raise SkipTest("its images are the same in every epoch")
    first, again, other = train.fresh(0, 1), train.fresh(0, 1), train.fresh(0, 2)
    assert first.shape == train.images.shape and first.equal(again), "the same epoch has other images"
    assert not first.equal(other), "all epochs have the same images"


def brings_the_images_asked_for(subject: Subject) -> None:
    """In the order it is told, each batch when it is asked for, and again in another order."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, *subject.image_shape), generator=generator).byte()
    loader = subject.make()
    loader.open(Split(images), torch.device("cpu"))
    for seed in (1, 2):
        indices = torch.randperm(40, generator=torch.Generator().manual_seed(seed)).split(12)
        found = [batch.clone() for batch in loader.batches(indices)]
        assert [len(batch) for batch in found] == [len(index) for index in indices], "batches of other sizes"
        assert all(b.equal(images[i]) for b, i in zip(found, indices, strict=True)), "other images"


def _views(subject: Subject, index: Tensor, *, epoch: int = 0, sizes: Tensor | None = None) -> Any:
    policy = subject.make()
    images = torch.randint(0, 256, (N, *subject.image_shape), generator=torch.Generator().manual_seed(0)).byte()
    return policy.count, images, policy(images[index], index, seed=3, epoch=epoch, sizes=sizes)


def views_have_the_promised_shapes(subject: Subject) -> None:
    """J views (N, J, C, h, w) of each image beside the images themselves, as finite floats."""
    count, images, views = _views(subject, torch.arange(N))
    assert views.x.ndim == 5 and views.x.shape[:3] == (N, count, images.shape[1]), f"x is {tuple(views.x.shape)}"
    assert views.x.is_floating_point() and views.x.isfinite().all(), "x is not finite"
    torch.testing.assert_close(views.original, pixels(images))
    assert views.index.equal(torch.arange(N)), "index is not what it was given"
    if views.local is not None:
        assert views.local.ndim == 5 and len(views.local) == N and views.local.isfinite().all(), (
            "local is not (N, K, ...)"
        )


def views_are_a_function_of_seed_epoch_and_image(subject: Subject) -> None:
    """In any batch and order, whatever the generators of torch and Python say: they are left as they were."""
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate()
    _, _, whole = _views(subject, torch.arange(N), epoch=2)
    x = whole.x.clone()
    assert torch.get_rng_state().equal(before[0]) and random.getstate() == before[1], "it draws from a global generator"
    torch.manual_seed(2)
    order = torch.tensor([5, 0, 3])
    _, _, some = _views(subject, order, epoch=2)
    torch.testing.assert_close(some.x, x[order], rtol=0, atol=1e-6)


CHECKS = {
    "dataset": (declared_facts_hold, loads_the_same_every_time, fresh_images_are_a_function_of_the_epoch),
    "loader": (brings_the_images_asked_for,),
    "views": (views_have_the_promised_shapes, views_are_a_function_of_seed_epoch_and_image),
}
