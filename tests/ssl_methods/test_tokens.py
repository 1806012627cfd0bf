"""Tokens of patches, masks as a function of (seed, epoch, index, view), and methods that predict what is hidden."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, VIT
from scipy.special import log_softmax, softmax
from torch import Tensor

import sslx
from sslx.api import ConfigError, Context, HasTokens, Use, Views, can
from sslx.core.training.config import configure
from sslx.ssl_methods.mae import MAE
from sslx.ssl_methods.networks.vit import ViTEncoder, picked
from sslx.ssl_methods.parts.masked import block_size, blocks, covered, others, shuffled

SHAPE = (3, 8, 8)


def vit(shape: tuple[int, int, int] = SHAPE, **options: Any) -> ViTEncoder:
    torch.manual_seed(0)
    made = sslx.make("encoder", "vit", posterior="delta", dim=0, **{**VIT, **options})
    assert isinstance(made, ViTEncoder)
    made.build(Context(shape, samples=10))
    return made.eval()


def method(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    made = configure({"method": {"use": name, **SMALL[name], **options}}).method
    made.build(Context(SHAPE, samples=10, views=2, steps=10))
    return made


def views(n: int = 4, count: int = 2, **facts: Any) -> Views:
    x = torch.rand(n, count, *SHAPE, generator=torch.Generator().manual_seed(1))
    return Views(x, x[:, 0], torch.arange(3, 3 + n), **facts)


def test_a_token_belongs_to_each_patch_in_rows_from_the_top_left() -> None:
    encoder, x = vit(), torch.rand(2, *SHAPE)
    patches = encoder.patches(x)
    assert can(encoder, HasTokens) and patches.shape == (2, 4, 4, 12) and encoder.tokens(x).shape == (2, 16, 16)
    for row in range(4):
        for column in range(4):
            expected = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1)
            assert torch.equal(patches[:, row, column], expected)


@pytest.mark.parametrize("options", [{}, {"pool": "class", "registers": 2}])
def test_hidden_patches_are_not_seen(options: dict[str, Any]) -> None:
    encoder, x = vit(**options), torch.rand(2, *SHAPE)
    keep = torch.tensor([[5, 0, 9], [1, 2, 3]])
    tokens = encoder.tokens(x, keep)
    changed = encoder.patches(x).flatten(1, 2).scatter(1, keep[:, :, None].expand(-1, -1, 12), 7.0) != 7.0
    noise = torch.rand(2, 16, 12) * changed
    image = (encoder.patches(x).flatten(1, 2) + noise).view(2, 4, 4, 3, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
    assert tokens.shape == (2, 3, 16) and not torch.equal(image, x)
    torch.testing.assert_close(encoder.tokens(image, keep), tokens)
    torch.testing.assert_close(encoder.tokens(x, keep.flip(1)), tokens.flip(1))
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(encoder.tokens(x, everything), encoder.tokens(x))


@pytest.mark.parametrize("size", [(8, 8), (5, 12), (16, 16)])
def test_images_may_have_any_size_and_are_padded_to_whole_patches(size: tuple[int, int]) -> None:
    encoder, x = vit(), torch.rand(2, 3, *size)
    h, w = (math.ceil(side / 2) for side in size)
    whole = torch.full((2, 3, 2 * h, 2 * w), 0.5)
    whole[:, :, : size[0], : size[1]] = x
    assert encoder.tokens(x).shape == (2, h * w, 16)
    torch.testing.assert_close(encoder.features(x), encoder.features(whole))


@pytest.mark.parametrize("options", [{}, {"pool": "class", "registers": 2}, {"patch_size": 4, "depth": 2}])
def test_the_transformer_is_that_of_timm(options: dict[str, Any]) -> None:
    import timm

    encoder, x = vit(**options), torch.rand(2, *SHAPE)
    config, weights = encoder.timm()
    (mean, *_), (std, *_) = config["pretrained_cfg"]["mean"], config["pretrained_cfg"]["std"]
    other = timm.create_model(config["architecture"], num_classes=0, **config["model_args"]).eval()
    other.load_state_dict(weights)
    torch.testing.assert_close(encoder.features(x), other((x - mean) / std))


def test_transformers_of_timm_have_tokens_and_timms_keywords() -> None:
    made: Any = sslx.make("encoder", "timm:test_vit", posterior="delta", dim=0, patch_size=2)
    made.build(Context(SHAPE, samples=10))
    x, keep = torch.rand(2, *SHAPE), torch.tensor([[5, 0, 9], [1, 2, 3]])
    made.eval()
    assert can(made, HasTokens) and made.patches(x).shape == (2, 4, 4, 12)
    assert made.tokens(x, keep).shape == (2, 3, 64)
    torch.testing.assert_close(made.tokens(x, torch.arange(16).expand(2, -1)), made.tokens(x))
    torch.testing.assert_close(made.network.forward_features(x)[:, 1:], made.tokens(x))
    assert not can(sslx.make("encoder", "timm:resnet10t"), HasTokens)


def test_blocks_are_left_out_in_training_alone() -> None:
    encoder, x = vit(drop_path=0.5, depth=2), torch.rand(64, *SHAPE)
    whole = encoder.features(x)
    assert torch.equal(encoder.features(x), whole)
    assert [block.drop_path for block in encoder.blocks] == [0.0, 0.5]
    torch.manual_seed(0)
    same = (encoder.train().features(x) - whole).abs().amax(dim=1) < 1e-6
    assert not same.any()  # one residual is twice as large, or it is left out


def test_a_width_that_suits_no_head_is_refused_in_one_line() -> None:
    with pytest.raises(
        ConfigError, match=r"^encoder.width: expected a multiple of 4 and of the number of heads, 3; got"
    ):
        vit(heads=3)
    with pytest.raises(ConfigError, match=r"^width: expected a multiple of 4 and of the number of heads, 3; got 8"):
        method("mae", heads=3)


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_mask_is_a_function_of_seed_epoch_index_and_view() -> None:
    def order(batch: Views) -> Tensor:
        return shuffled(batch.keys(Use.MASKS), 16).unflatten(0, (-1, batch.count))

    first, fewer = order(views(seed=1, epoch=2)), views(2, seed=1, epoch=2)
    assert torch.equal(order(fewer), first[:2])  # whatever else is in the batch
    assert torch.equal(first.sort(dim=2).values, torch.arange(16).expand(4, 2, 16))
    others_ = [order(views(seed=2, epoch=2)), order(views(seed=1, epoch=3)), first.flip(0), first.flip(1)]
    assert not any(torch.equal(first, other) for other in others_)
    many = shuffled(views(4000, 1).keys(Use.MASKS), 16)[:, :4]  # each patch is equally often among the first
    assert (many.flatten().bincount() / 1000 - 1).abs().max() < 0.15


def test_the_engine_says_which_epoch_it_is(tiny_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, forward = [], MAE.forward

    def watched(self: MAE, views: Views) -> Any:
        seen.append((views.seed, views.epoch))
        return forward(self, views)

    monkeypatch.setattr(MAE, "forward", watched)
    tiny_run("mae", "run", seed=7, evaluators=[])
    assert seen == [(7, 0)] * 6 + [(7, 1)] * 6


def test_blocks_lie_in_the_image_and_the_context_outside_of_them() -> None:
    keys, grid = views(500, 1).keys(Use.MASKS), (8, 6)
    b = blocks(keys, grid, (3, 2), 4)
    assert b.shape == (500, 4, 6) and b.min() == 0 and b.max() == 47
    rows, columns = b // 6, b % 6
    assert ((rows.amax(2) - rows.amin(2)) == 2).all() and ((columns.amax(2) - columns.amin(2)) == 1).all()
    corners = (b[:, :, 0].flatten()).bincount(minlength=48).view(8, 6) > 0
    assert corners[:6, :5].all() and not corners[6:].any() and not corners[:, 5:].any()
    C = others(keys, b.flatten(1), 48, 24)
    assert C.shape == (500, 24) and not (C[:, :, None] == b.flatten(1)[:, None]).any()
    assert all(len(row.unique()) == 24 for row in C[:50])
    assert others(keys, torch.arange(48).expand(500, -1), 48, -3).shape == (500, 1)  # if there is nothing else
    sizes = [block_size(key, (14, 14), (0.15, 0.2), (0.75, 1.5)) for key in keys]
    shares = [h * w / 196 for h, w in sizes]
    assert len(set(sizes)) > 5 and min(shares) > 0.12 and max(shares) < 0.23
    assert block_size(keys[0], (1, 2), (0.9, 0.95), (1.0, 1.0)) == (1, 1)


# --- methods ----------------------------------------------------------------------------------------------------------


def doubled(name: str, **options: Any) -> tuple[Any, Views]:
    batch = views(seed=3, epoch=1)
    return method(name, **options).double(), Views(batch.x.double(), batch.original, batch.index, seed=3, epoch=1)


@pytest.mark.parametrize("standardize", [True, False])
def test_mae_is_the_error_of_the_hidden_pixels(standardize: bool) -> None:
    model, batch = doubled("mae", standardize=standardize)
    order, x, errors = shuffled(batch.keys(Use.MASKS), 16), batch.flat, []
    for i in range(len(x)):
        V, M = order[i : i + 1, :4], order[i : i + 1, 4:]
        found = model.decoder(model.encoder.tokens(x[i : i + 1], V), V, M)[0].detach().numpy()
        for place, patch in enumerate(M[0].tolist()):
            row, column = divmod(patch, 4)
            pixels = x[i, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten().numpy()
            if standardize:
                pixels = (pixels - pixels.mean()) / math.sqrt(pixels.var(ddof=1) + 1e-6)
            errors.append(((found[place] - pixels) ** 2).mean())
    assert model(batch).total.item() == pytest.approx(np.mean(errors), rel=1e-5)  # predictions are float32


def test_i_jepa_predicts_the_teachers_tokens_of_each_block() -> None:
    model, batch = doubled("i-jepa", blocks=2)
    with torch.no_grad():
        for weight in model.teacher.parameters():
            weight += 0.1
    (C, b), x, errors = model.masks(batch), batch.flat, []
    assert b.shape == (8, 2, 4) and C.shape == (8, 8)
    for i in range(len(x)):
        context = model.encoder.tokens(x[i : i + 1], C[i : i + 1])
        teacher = model.teacher.tokens(x[i : i + 1])[0].detach().numpy()
        for block in b[i]:
            found = model.predictor(context, C[i : i + 1], block[None])[0].detach().numpy()
            for place, patch in enumerate(block.tolist()):
                target = (teacher[patch] - teacher[patch].mean()) / math.sqrt(teacher[patch].var() + 1e-5)
                distance = np.abs(found[place] - target)
                errors.append(np.where(distance < 1, distance**2 / 2, distance - 0.5).mean())
    loss = model(batch).total
    assert loss.item() == pytest.approx(np.mean(errors), rel=1e-5)
    loss.backward()
    assert all(weight.grad is None for weight in model.teacher.parameters())
    first, now = next(model.teacher.parameters()).clone(), next(model.encoder.parameters()).detach()
    model.after_step(5)  # of ten
    torch.testing.assert_close(next(model.teacher.parameters()), 0.998 * first + 0.002 * now)


def test_a_predictor_knows_places_and_no_order() -> None:
    predictor = method("mae").decoder.eval()
    tokens, at, ask = torch.rand(2, 3, 16), torch.tensor([[5, 0, 9], [1, 2, 3]]), torch.tensor([[7, 8], [15, 0]])
    found = predictor(tokens, at, ask)
    torch.testing.assert_close(predictor(tokens.flip(1), at.flip(1), ask.flip(1)), found.flip(1))
    assert not torch.allclose(predictor(tokens, at, ask - ask + 6)[:, 0], found[:, 0], atol=1e-4)


def test_ibot_predicts_the_teachers_clusters_of_views_and_of_hidden_patches() -> None:
    model, batch = method("ibot", whole=0.3), views(seed=3, epoch=1)
    hidden, x = model.hidden(batch), batch.flat
    assert hidden.sum() > 0 and (hidden.sum(dim=1) <= 8).all() and (hidden.sum(dim=1) == 0).any()  # of 16
    hid = covered(x, hidden.unflatten(1, (4, 4)), model.blank)
    for i, patches in enumerate(hidden):
        for t, is_hidden in enumerate(patches.tolist()):
            place = (slice(None), *(slice(2 * each, 2 * each + 2) for each in divmod(t, 4)))
            assert torch.equal(hid[i][place], model.blank.to(x) if is_hidden else x[i][place])
    with torch.no_grad():
        for weight in model.teacher.parameters():
            weight += 0.05
        model.patch_objective.centre += 0.02

    def clusters(network: Any, head: Any, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        tokens = network.tokens(images)
        views = head(tokens.mean(dim=1)).unflatten(0, (-1, 2))
        return views.detach().numpy(), torch.stack([head(each) for each in tokens]).detach().numpy()

    (z, student), (target, teacher) = clusters(model.encoder, model.head, hid), clusters(*model.teacher, x)
    distances = [
        -(softmax((target[n, 1 - j] - 0) / 0.04) * log_softmax(z[n, j] / 0.1)).sum() for n in range(4) for j in (0, 1)
    ]
    patches = []
    for i, mine in enumerate(hidden):
        each = [
            -(softmax((teacher[i, t] - 0.02) / 0.07) * log_softmax(student[i, t] / 0.1)).sum()
            for t in mine.nonzero().flatten().tolist()
        ]
        patches.append(np.mean(each) if each else 0.0)
    terms = model(batch)
    assert terms["distillation"].value.item() == pytest.approx(np.mean(distances), rel=1e-4)
    assert terms["patches"].value.item() == pytest.approx(np.mean(patches), rel=1e-4)
    terms.total.backward()
    assert model.blank.grad is not None and all(weight.grad is None for weight in model.teacher.parameters())
    model.after_step(5)
    expected = 0.9 * 0.02 + 0.1 * teacher.mean(axis=(0, 1))
    np.testing.assert_allclose(model.patch_objective.centre.numpy(), expected, rtol=1e-4)


def test_ibot_refuses_features_that_it_does_not_train() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.pool: IBOT trains the mean of the tokens, expected mean"):
        method("ibot", encoder={**VIT, "pool": "class"})


@pytest.mark.parametrize("name", ["mae", "i-jepa", "ibot"])
def test_a_network_without_tokens_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^encoder: MLPEncoder gives no tokens of patches, which .* such as vit$"):
        method(name, encoder={"use": "mlp"})
    with pytest.raises(ConfigError, match=r"^encoder.dim: .* trains tokens and no layer above them, expected 0$"):
        method(name, encoder={**VIT, "dim": 5})
    with pytest.raises(ConfigError, match=r"^encoder.patch_size: views have 1 patch, .* needs at least 2$"):
        method(name, encoder={**VIT, "patch_size": 8})


def test_picked_are_the_vectors_at_these_places() -> None:
    x, index = torch.rand(2, 5, 3), torch.tensor([[4, 0], [2, 2]])
    assert torch.equal(picked(x, index), torch.stack([x[0, [4, 0]], x[1, [2, 2]]]))
