from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sslx_simmim.components import SimMIM

import sslx
from sslx.api import ConfigError, Context, Views
from sslx.testing import Check, parametrize_with_checks

SMALL = {"encoder": {"width": 24, "depth": 1}}


@parametrize_with_checks("sslx-simmim", options={"method:simmim": SMALL})
def test_conformance(check: Check) -> None:
    check()


def test_the_command_of_the_readme_runs(sslx_cli: Callable[..., Any]) -> None:
    small = ("--set", "encoder.width=48", "--set", "encoder.depth=2")
    done = sslx_cli("run", "--plugin", "simmim", *small, "--epochs", "1", "--subset", "64")
    assert done.code == 0, done.errors


def made(shape: tuple[int, int, int], **options: Any) -> SimMIM:
    torch.manual_seed(0)
    method = SimMIM(encoder=sslx.make("encoder", "vit", posterior="delta", dim=0, width=24, depth=1), **options)
    method.build(Context(image_shape=shape, samples=10, views=2))
    torch.nn.init.normal_(method.patch)
    return method


@pytest.mark.parametrize(("shape", "masked", "count"), [((3, 8, 12), 0.6, 4), ((1, 10, 7), 0.4, 3)])
@torch.no_grad()
def test_loss_is_that_of_a_loop_over_hidden_patches(shape: tuple[int, int, int], masked: float, count: int) -> None:
    method, x = made(shape, masked=masked), torch.rand(3, 2, *shape)
    seen, tokens = [], method.encoder.tokens
    method.encoder.tokens = lambda images: seen.append(images) or tokens(images)
    loss = float(method(Views(x, x[:, 0], torch.arange(3), seed=1, epoch=2)).total)
    (covered,) = seen
    guesses = method.head(tokens(covered)).numpy()  # (B, T, P)
    known = method.encoder.patches(x.flatten(0, 1)).flatten(1, 2).numpy()
    patch, columns = method.patch.numpy(), -(-shape[2] // 4)
    errors, masks = [], set()
    for image, given, guess, target in zip(x.flatten(0, 1).numpy(), covered.numpy(), guesses, known, strict=True):
        hidden = []
        for t in range(len(guess)):
            top, left = 4 * (t // columns), 4 * (t % columns)
            here = np.s_[:, top : top + 4, left : left + 4]
            whole = np.zeros((shape[0], 4, 4), np.float32)  # what is outside the image is zero
            whole[:, : image[here].shape[1], : image[here].shape[2]] = image[here]
            assert sorted(target[t]) == sorted(whole.ravel())
            if not (given[here] == image[here]).all():
                np.testing.assert_array_equal(given[here], patch[:, : image[here].shape[1], : image[here].shape[2]])
                hidden.append(t)
                errors.append(np.abs(guess[t] - target[t]).mean())
        assert len(hidden) == count
        masks.add(tuple(hidden))
    assert len(masks) > 1  # each view has a mask of its own
    assert loss == pytest.approx(np.mean(errors), rel=1e-5)


@torch.no_grad()
def test_masks_depend_on_seed_and_epoch_alone() -> None:
    method, x = made((1, 16, 16)), torch.rand(4, 2, 1, 16, 16)

    def loss(seed: int, epoch: int) -> float:
        return float(method(Views(x, x[:, 0], torch.arange(4), seed=seed, epoch=epoch)).total)

    assert loss(0, 0) == loss(0, 0) and len({loss(0, 0), loss(0, 1), loss(1, 0)}) == 3


@pytest.mark.parametrize(
    ("encoder", "message"), [("mlp", "no tokens of patches"), ("vit", "expected 0")], ids=["mlp", "vit"]
)
def test_an_encoder_without_tokens_or_with_a_layer_above_them_is_refused(encoder: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SimMIM(encoder=sslx.make("encoder", encoder, dim=5)).build(Context(image_shape=(1, 8, 8), samples=10))
