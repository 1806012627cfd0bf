"""Views of another size than the images work, or are refused in one line before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import sslx
import sslx.api
from sslx.api import Context, Split, resized
from sslx.core.errors import NonFiniteError

Command = Callable[..., Any]
SMALL = ("--epochs", "1", "--subset", "64", "--batch-size", "16", "-e", "knn", "-o", "run")


@pytest.mark.parametrize(
    "words",
    [
        "vae views.size=16",
        "vae views.size=4 decoder=resnet18-small encoder=resnet18-small",
        "aasae views.size=16",
        "cr-vae views.size=16",
        "gedi views.size=16 energy.steps=1 energy.chains=40",
        "jigsaw views.size=16",
        "simclr views.size=16 encoder=resnet8 encoder.width=4",
        "dino views=dino",
        "swav views.local.use=standard views.local.size=4",
    ],
)
def test_networks_are_built_for_the_size_of_the_views(words: str, command: Command) -> None:
    method, *settings = words.split()
    done = command("run", "-p", method, *SMALL, *(word for each in settings for word in ("--set", each)))
    assert done.code == 0, done.errors
    size = sslx.open_run("run").config.views.size  # type: ignore[attr-defined]
    found: Any = sslx.open_run("run").method()
    x = torch.rand(2, 1, 8, 8)
    assert len(found.represent(x)) == 2
    if method in ("vae", "aasae", "cr-vae"):
        assert found.reconstruct(x).shape == x.shape and found.log_density(x).shape == (2,)
        assert found.sample(3).shape == (3, 1, size, size)


def test_the_defaults_of_imagenet_fit_each_other(command: Command, tmp_path: Path) -> None:
    random = numpy.random.default_rng(0)
    for half, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
        folder = tmp_path / "imagenet" / half / name
        folder.mkdir(parents=True)
        for i in range(8):
            pixels: Any = random.integers(0, 256, (20, 30, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    words = ["-d", "imagenet", "--data-dir", ".", "--epochs", "1", "--batch-size", "8", "-e", "knn", "-o", "run"]
    done = command("run", "-p", "simclr", *words, "-s", "encoder=mlp", "-s", "encoder.hidden=4")
    assert done.code == 0, done.errors
    run = sslx.open_run("run")
    assert run.image_shape == (3, 256, 256)
    assert run.method().encoder.layers[0].in_features == 3 * 224 * 224  # type: ignore[union-attr, index]


FIXED = """
from sslx.api import Encoder
from torch import nn

class Fixed(Encoder):
    def build(self, ctx):
        self.layer = nn.Linear(ctx.image_shape[1] * ctx.image_shape[2], 4)
        return self.head(ctx, 4)

    def features(self, x):
        return self.layer(x.flatten(1))
"""


@pytest.mark.parametrize(
    ("setting", "sizes"),
    [
        ("views.size=16", "views of 16x16, images of 8x8"),
        ("views.local.size=4", "views of 8x8, images of 8x8, local of 4x4"),
    ],
)
def test_an_encoder_for_one_size_is_refused_before_training(
    setting: str, sizes: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "fixed.py").write_text(FIXED)
    words = [
        "-s",
        "encoder=./fixed.py:Fixed",
        "-s",
        setting,
        *(["-s", "views.local.use=standard"] * ("local" in setting)),
    ]
    code, _, errors = command("run", "-p", "simclr", *SMALL, *words)
    (line,) = errors.splitlines()
    assert code == 2 and f"views: simclr with encoder Fixed does not take {sizes}: mat1 and mat2" in line
    assert not (tmp_path / "run").exists()


def test_vision_transformers_take_other_sizes() -> None:
    encoder: Any = sslx.make("encoder", "timm:vit_tiny_patch16_224", posterior="delta")
    encoder.build(Context((3, 32, 32), 10))
    for size in (32, 16, 40, 8):
        assert encoder(torch.rand(2, 3, size, size)).mean.shape == (2, 10)
    with pytest.raises(
        sslx.api.ConfigError, match="vit_tiny_patch16_224 cannot be used for images of 8x8: .*views.size"
    ):
        sslx.make("encoder", "timm:vit_tiny_patch16_224").build(Context((1, 8, 8), 10))


def test_images_keep_their_values_if_their_size_is_right() -> None:
    x = torch.rand(2, 3, 8, 6)
    assert resized(x, (8, 6)) is x and resized(x, (4, 3)).shape == (2, 3, 4, 3)


COMPARING = ["simclr", "instance-discrimination", "barlow-twins", "w-mse", "vicreg", "cor-info-max", "swav", "ebclr",
             "deep-cluster", "sela", "proto-cpc", "lejepa", "moco-v3", "nnclr", "dcl", "emp-ssl"]  # fmt: skip


@pytest.mark.parametrize("method", COMPARING)
def test_a_method_that_compares_images_needs_two(method: str) -> None:
    with pytest.raises(
        sslx.api.ConfigError, match="train.batch_size: .* compares images of a batch, expected at least 2"
    ):
        sslx.run(method, train={"batch_size": 1})


def test_an_inverse_that_does_not_exist_stops_the_run_as_a_loss_that_is_not_finite(tiny_run: Any) -> None:
    with pytest.raises(NonFiniteError, match="the covariance of the embeddings cannot be inverted"):
        tiny_run("w-mse", "run", train={"optimizer": {"lr": 1e10}})


@pytest.mark.parametrize(("value", "word"), [(7, "equal"), (0, "black")])
def test_images_without_a_difference_are_told_of(value: int, word: str) -> None:
    images = torch.full((300, 1, 4, 4), value, dtype=torch.uint8)
    assert Split(images).remark() == f"all 300 training images are {word}, so nothing can be learned from them"
    assert Split(images[:1].expand(5000, -1, -1, -1)).remark().startswith(f"the first 4096 training images are {word}")
    images[299, 0, 0, 0] += 1
    assert Split(images).remark() == Split(images[:1]).remark() == ""
