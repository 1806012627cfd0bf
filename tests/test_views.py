"""Views are what torchvision makes with the same parameters, and a pure function of (seed, epoch, index, view)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from sslx.api import ConfigError, Views
from sslx.data_loaders.policy import Parameters, Standard, sample
from sslx.data_loaders.resample import resample, weights

EVERYTHING: dict[str, Any] = {
    "crop": (0.2, 1.0),
    "hflip": 0.5,
    "vflip": 0.5,
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "jitter": 0.8,
    "grey": 0.3,
}


def images(n: int = 6, channels: int = 3, height: int = 32, width: int = 24) -> Tensor:
    return torch.randint(0, 256, (n, channels, height, width), generator=torch.Generator().manual_seed(0)).byte()


def views_of(batch: Tensor, index: Tensor | None = None, seed: int = 1, epoch: int = 2, **options: Any) -> Views:
    index = torch.arange(len(batch)) if index is None else index
    return Standard(**options)(batch, index, seed=seed, epoch=epoch)


def by_torchvision(policy: Standard, image: Tensor, p: dict[str, Any]) -> Tensor:
    """One view of one (C, H, W) float image, made by torchvision's own functions with the parameters `p`."""
    size = list(image.shape[-2:])
    x = F.resized_crop(image, p["top"], p["left"], p["height"], p["width"], size, antialias=True)
    x = F.hflip(x) if p["hflip"] else x
    x = F.vflip(x) if p["vflip"] else x
    adjustments = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for which in p["order"]:
        x = adjustments[which](x, p["factors"][which])
    return F.rgb_to_grayscale(x, num_output_channels=len(x)) if p["grey"] else x


def compare(batch: Tensor, **options: Any) -> float:
    """The largest difference from torchvision over all views of a batch."""
    policy = Standard(count=8, **options)
    index = torch.arange(len(batch))
    made = policy(batch, index, seed=1, epoch=2)
    drawn = attrs.asdict(sample(policy, index, (batch.shape[-2], batch.shape[-1]), 1, 2))
    worst = 0.0
    for n in range(len(batch)):
        for j in range(policy.count):
            expected = by_torchvision(policy, made.original[n], {name: v[n, j].tolist() for name, v in drawn.items()})
            worst = max(worst, float((made.x[n, j] - expected).abs().max()))
    return worst


@pytest.mark.parametrize("name", ["crop", "hflip", "vflip", "brightness", "contrast", "saturation", "grey"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_operation_is_torchvisions(name: str, channels: int) -> None:
    assert compare(images(channels=channels), **{name: EVERYTHING[name]}) < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_all_operations_together_are_torchvisions_in_the_drawn_order(channels: int) -> None:
    assert compare(images(channels=channels), **EVERYTHING) < 1e-5


@pytest.mark.parametrize("out", [(32, 24), (9, 7), (50, 61)])
def test_resampling_is_antialiased_interpolation_to_any_size(out: tuple[int, int]) -> None:
    image = images(1) / 255
    top, left, height, width = 3, 2, 25, 20
    off = torch.tensor([[False]])
    wy = weights(torch.tensor([[top]]), torch.tensor([[height]]), off, 32, out[0])
    wx = weights(torch.tensor([[left]]), torch.tensor([[width]]), off, 24, out[1])
    expected = F.resized_crop(image, top, left, height, width, list(out), antialias=True)
    torch.testing.assert_close(resample(image, wy, wx)[:, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("shape", "crop"), [((28, 28), (0.4, 1.0)), ((40, 16), (0.2, 1.0)), ((8, 60), (0.9, 1.0))])
def test_crops_follow_torchvisions_law(shape: tuple[int, int], crop: tuple[float, float]) -> None:
    """Kolmogorov-Smirnov on 4000 boxes each, one image narrower and one wider than the ratios allow."""
    policy = Standard(count=1, crop=crop)
    ours = sample(policy, torch.arange(4000), shape, seed=0, epoch=0)
    blank = torch.zeros(1, *shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [RandomResizedCrop.get_params(blank, list(crop), list(policy.ratio)) for _ in range(4000)]
    theirs = torch.tensor(boxes).T
    for name, expected in zip(("top", "left", "height", "width"), theirs, strict=True):
        assert ks_2samp(getattr(ours, name)[:, 0], expected).pvalue > 0.01, name


def test_crops_stay_inside_the_image() -> None:
    p = sample(Standard(count=4, crop=(0.01, 1.0)), torch.arange(2000), (11, 7), seed=3, epoch=0)
    assert (p.height >= 1).all() and (p.width >= 1).all() and (p.top >= 0).all() and (p.left >= 0).all()
    assert (p.top + p.height).max() == 11 and (p.left + p.width).max() == 7


def test_probabilities_and_ranges_are_those_asked_for() -> None:
    """20 000 views; four standard deviations."""
    policy = Standard(count=2, hflip=0.5, vflip=0.1, brightness=0.4, contrast=1.5, jitter=0.8, grey=0.2)
    p = sample(policy, torch.arange(10_000), (8, 8), seed=0, epoch=0)
    jittered = (p.factors != 1).any(-1)
    for drawn, probability in ((p.hflip, 0.5), (p.vflip, 0.1), (p.grey, 0.2), (jittered, 0.8)):
        assert abs(drawn.float().mean() - probability) < 4 * (probability * (1 - probability) / 20_000) ** 0.5
    brightness, contrast, saturation = p.factors[jittered].unbind(-1)
    assert brightness.min() < 0.601 and brightness.max() > 1.399 and 0.6 <= brightness.min() <= brightness.max() <= 1.4
    assert contrast.min() < 0.001 and contrast.max() > 2.499 and 0 <= contrast.min() <= contrast.max() <= 2.5
    assert (saturation == 1).all()
    counts = (p.order * torch.tensor([9, 3, 1])).sum(-1).flatten().bincount()
    assert len(counts[counts > 0]) == 6 and counts[counts > 0].min() > 20_000 / 6 * 0.95


def test_no_two_quantities_share_their_randomness() -> None:
    """Correlations among 10 000 views: independent ones stay below 4.5 / sqrt(n)."""
    policy = Standard(
        crop=(0.2, 1.0), hflip=0.5, vflip=0.5, brightness=1, contrast=1, saturation=1, jitter=0.5, grey=0.5
    )
    p = sample(policy, torch.arange(5000), (500, 500), seed=0, epoch=0)
    corner = (p.top / (501 - p.height), p.left / (501 - p.width))  # position in the room that the size leaves
    size = (p.height * p.width, p.height / p.width)
    jittered = (p.factors != 1).any(-1)
    drawn = (*corner, *size, p.hflip, p.vflip, jittered, *p.factors.unbind(-1), p.order[..., 0], p.grey)
    correlation = torch.stack([values.flatten().double() for values in drawn]).corrcoef().fill_diagonal_(0)
    assert correlation.abs().max() < 4.5 / 10_000**0.5


def test_views_are_floats_from_0_to_1_beside_their_originals() -> None:
    batch = images(5)
    made = views_of(batch, count=3, **EVERYTHING)
    assert made.x.shape == (5, 3, 3, 32, 24) and made.x.dtype == torch.float32
    assert made.x.min() >= 0 and made.x.max() <= 1 and made.x.is_contiguous()
    assert torch.equal(made.original, batch.float() / 255)


def test_with_everything_off_each_view_is_its_image() -> None:
    made = views_of(images(2), count=2)
    assert torch.equal(made.x, made.original[:, None].expand(-1, 2, -1, -1, -1))


def test_views_differ_between_samples_views_epochs_and_seeds() -> None:
    same = images(1).expand(2, -1, -1, -1)
    x = views_of(same, **EVERYTHING).x
    later, reseeded = views_of(same, epoch=3, **EVERYTHING).x, views_of(same, seed=2, **EVERYTHING).x
    assert not any(torch.equal(x[0, 0], other) for other in (x[1, 0], x[0, 1], later[0, 0], reseeded[0, 0]))


def test_the_views_of_a_sample_are_the_same_in_any_batch() -> None:
    batch, index = images(), torch.tensor([50, 3, 8, 9, 0, 7])
    together = views_of(batch, index, count=3, **EVERYTHING).x
    for n in range(len(batch)):
        alone = views_of(batch[n : n + 1], index[n : n + 1], count=2, **EVERYTHING).x[0]
        torch.testing.assert_close(alone, together[n, :2], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", list(EVERYTHING))
def test_switching_one_option_on_leaves_the_numbers_of_the_others(name: str) -> None:
    """Switching all on but one, then this one too, changes nothing but what belongs to it."""
    belongs = {"crop": {"top", "left", "height", "width"}, "jitter": {"factors"}}
    belongs |= {factor: {"factors"} for factor in ("brightness", "contrast", "saturation")}
    one, two = (
        sample(Standard(**options), torch.arange(100), (32, 24), seed=0, epoch=0)
        for options in (EVERYTHING, {k: v for k, v in EVERYTHING.items() if k != name})
    )
    changed = {f.name for f in attrs.fields(Parameters) if not torch.equal(getattr(one, f.name), getattr(two, f.name))}
    assert changed == belongs.get(name, {name})
    if name in ("brightness", "contrast", "saturation"):
        others = [i for i, other in enumerate(("brightness", "contrast", "saturation")) if other != name]
        assert torch.equal(one.factors[..., others], two.factors[..., others])


def test_torchs_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    views_of(images(), **EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_views_are_the_same_on_a_gpu() -> None:
    expected = views_of(images(), **EVERYTHING).x
    torch.testing.assert_close(views_of(images().cuda(), **EVERYTHING).x.cpu(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": (1.0, 0.5)}, "crop: expected the smaller number first, got (1, 0.5)"),
        ({"ratio": (2, 1)}, "ratio: expected the smaller number first, got (2, 1)"),
        ({"crop": (0.0, 1.0)}, "Standard.crop: expected a list of 2, each item a number > 0 <= 1, got (0.0, 1.0)"),
        ({"hflip": 2}, "Standard.hflip: expected a number >= 0 <= 1, got 2"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Standard(**options)
    assert str(error.value) == message
