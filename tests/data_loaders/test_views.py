"""Views are what torchvision makes with the same parameters, and a pure function of (seed, epoch, index, view)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import sample
from scipy.stats import chisquare, ks_2samp, kstest
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from sslx.api import ConfigError, ViewPolicy, Views
from sslx.core.options import make
from sslx.data_loaders.views.filters import quantiles
from sslx.data_loaders.views.resample import resample, weights
from sslx.data_loaders.views.standard import Standard

ROOT = Path(__file__).parents[2]
EVERYTHING: dict[str, Any] = {
    "crop": (0.2, 1.0),
    "hflip": 0.5,
    "vflip": 0.5,
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "jitter": 0.8,
    "grey": 0.3,
    "blur": 0.5,
    "solarise": 0.3,
}
#: The largest differences from torchvision that docs/concepts/views.md promises: geometry without rotations, and colour.
GEOMETRY, COLOUR, TOGETHER = 1e-6, 1e-5, 2e-5
COLOURS = ("brightness", "contrast", "saturation", "hue")
BACKENDS = ("torch", "numba")


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
    if p["angle"]:
        x = F.rotate(x, p["angle"], interpolation=F.InterpolationMode.BILINEAR)
    adjustments = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for which in p["order"]:
        x = adjustments[which](x, p["factors"][which])
    x = F.rgb_to_grayscale(x, num_output_channels=len(x)) if p["grey"] else x
    if p["sigma"]:
        x = F.gaussian_blur(x, [2 * policy.law(*size).radius + 1] * 2, [p["sigma"]] * 2)
    return F.solarize(x, 0.5) if p["solarise"] else x


def compare(batch: Tensor, **options: Any) -> float:
    """The largest difference from torchvision over all views of a batch."""
    policy = Standard(count=8, **options)
    index = torch.arange(len(batch))
    made = policy(batch, index, seed=1, epoch=2)
    drawn = vars(sample(policy, index, (batch.shape[-2], batch.shape[-1]), 1, 2))
    worst = 0.0
    for n in range(len(batch)):
        for j in range(policy.count):
            expected = by_torchvision(policy, made.original[n], {name: v[n, j].tolist() for name, v in drawn.items()})
            worst = max(worst, float((made.x[n, j] - expected).abs().max()))
    return worst


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [*EVERYTHING, "rotation"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_operation_is_torchvisions(name: str, channels: int, backend: str) -> None:
    tolerance = GEOMETRY if name in ("crop", "hflip", "vflip") else COLOUR
    option = {name: (EVERYTHING | {"rotation": 40.0})[name]}
    assert compare(images(channels=channels), backend=backend, **option) < tolerance


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_all_operations_together_are_torchvisions_in_the_drawn_order(channels: int, backend: str) -> None:
    assert compare(images(channels=channels), backend=backend, kernel=7, **EVERYTHING) < TOGETHER


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_padded_crop_is_torchvisions(backend: str) -> None:
    batch, index = images(), torch.arange(6)
    policy = Standard(count=4, pad=5, backend=backend)
    x, p = policy(batch, index, seed=1, epoch=2), sample(policy, index, (32, 24), 1, 2)
    assert p.top.min() < 0 < p.top.max() and p.left.abs().max() <= 5
    for n in range(6):
        padded = F.pad(x.original[n], [5], padding_mode="reflect")
        for j in range(4):
            expected = F.crop(padded, int(p.top[n, j]) + 5, int(p.left[n, j]) + 5, 32, 24)
            torch.testing.assert_close(x.x[n, j], expected, atol=GEOMETRY, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"rotation": 180.0, "crop": (0.1, 1.0)},
        {"rotation": 30.0, "fill": "edge", "pad": 3, "crop": (1.0, 1.0)},
        {"rotation": 30.0, "size": 9},
        {"size": 9, "crop": (0.05, 1.0)},
        {"size": 50, "crop": (0.05, 1.0)},
        {"noise": 0.2},
        {"blur": 1.0, "kernel": 23},
        {"blur": (1.0, 0.0), "solarise": (0.0, 0.5)},
    ],
)
def test_the_backends_agree(options: dict[str, Any], channels: int) -> None:
    batch = images(channels=channels, width=33)
    one, other = (views_of(batch, count=4, backend=name, **(EVERYTHING | options)) for name in BACKENDS)
    assert torch.equal(one.original, other.original)
    torch.testing.assert_close(one.x, other.x, atol=TOGETHER, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(4, 5, 0), (5, 6, 0), (8, 8, 0), (7, 9, 0), (9, 40, 5), (33, 31, 12), (96, 90, 32), (5, 50, 11), (64, 64, 99)],
)
def test_the_backends_agree_for_any_size(height: int, width: int, size: int, channels: int) -> None:
    """Below, at and above the eight pixels that the kernel takes at a time, smaller and larger than the image."""
    batch = images(channels=channels, height=height, width=width)
    one, other = (views_of(batch, size=size, backend=name, **EVERYTHING) for name in BACKENDS)
    torch.testing.assert_close(one.x, other.x, atol=TOGETHER, rtol=0)


def test_compiled_views_are_the_same() -> None:
    """For every size of a batch, compiled once."""
    options: dict[str, Any] = {"crop": (0.2, 1.0), "contrast": 0.4}  # more take long to compile
    for epoch in range(3):
        batch = images(8 + epoch, channels=1)
        one, other = (views_of(batch, epoch=epoch, backend=name, **options) for name in ("torch", "compiled"))
        torch.testing.assert_close(one.x, other.x, atol=TOGETHER, rtol=0)


def test_the_docs_promise_these_tolerances() -> None:
    rows = [row for row in (ROOT / "docs" / "concepts" / "views.md").read_text().splitlines() if row.count("|") == 4]
    promised = [float(row.split("|")[-2]) for row in rows if "e-" in row]
    assert promised == [GEOMETRY] * 3 + [COLOUR] * 5 + [TOGETHER]


def test_views_do_not_depend_on_the_number_of_threads() -> None:
    batch, threads = images(50), torch.get_num_threads()
    made = []
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        made.append(views_of(batch, rotation=10.0, noise=0.1, **EVERYTHING).x)
    torch.set_num_threads(threads)
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


def test_several_threads_and_forked_processes_can_make_views_at_once() -> None:
    """What numba's own threads would not survive."""
    torch.set_num_threads(2)
    batch = images(16)
    expected = views_of(batch, **EVERYTHING).x
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: views_of(batch, **EVERYTHING).x, range(6)))
    child = os.fork()
    if child == 0:  # numpy compares here, as torch's own threads do not survive a fork
        signal.alarm(60)
        os._exit(0 if np.array_equal(views_of(batch, **EVERYTHING).x.numpy(), expected.numpy()) else 1)
    torch.set_num_threads(1)
    assert os.waitpid(child, 0)[1] == 0
    assert all(torch.equal(x, expected) for x in made)


def test_memory_is_used_again_only_when_nobody_holds_the_views() -> None:
    batch = images(16)
    held = [views_of(batch, epoch=epoch, **EVERYTHING).x[3:, 1] for epoch in range(8)]  # a part holds the whole
    copies = [x.clone() for x in held]
    views_of(batch, epoch=9, **EVERYTHING)
    assert all(torch.equal(x, copy) for x, copy in zip(held, copies, strict=True))
    assert len({x.untyped_storage().data_ptr() for x in held}) == 8
    del held, copies
    torch.set_num_threads(1)  # another thread may hold a batch for some microseconds after it was made
    addresses = {views_of(batch, epoch=epoch, **EVERYTHING).x.data_ptr() for epoch in range(8)}
    assert len(addresses) == 1


def test_noise_is_normal_and_independent() -> None:
    """1.2 million numbers: Kolmogorov-Smirnov, the tails, and correlations between pixels and between views."""
    grey = torch.full((100, 3, 32, 32), 128).byte()
    made = views_of(grey, count=4, noise=0.1)
    z = (made.x - made.original[:, None]).double() / 0.1
    assert kstest(z.flatten()[::10], "norm").pvalue > 0.01
    assert abs((z.abs() > 3).double().mean() - 0.0027) < 4 * (0.0027 / z.numel()) ** 0.5
    assert z.flatten(2).flatten(0, 1).corrcoef().fill_diagonal_(0).abs().max() < 5 / 3072**0.5
    assert z.flatten(2).flatten(0, 1).T[:200].corrcoef().fill_diagonal_(0).abs().max() < 5 / 400**0.5
    assert len(quantiles().unique()) == 1 << 16


@pytest.mark.parametrize("backend", BACKENDS)
def test_binarized_views_are_the_views_above_a_half(backend: str) -> None:
    local = {"use": "standard", "count": 1, "size": 9, "backend": backend}
    options: dict[str, Any] = {"crop": (0.4, 1.0), "vflip": 0.5, "noise": 0.1, "backend": backend}
    grey = make(ViewPolicy, {"use": "standard", **options, "local": local}, "views")
    binary = make(
        ViewPolicy, {"use": "standard", **options, "binarize": True, "local": local | {"binarize": True}}, "views"
    )
    one, other = (policy(images(channels=1), torch.arange(6), seed=1, epoch=2) for policy in (grey, binary))
    assert torch.equal(other.x, (one.x > 0.5).float()) and 0.2 < other.x.mean() < 0.8
    assert one.local is not None and other.local is not None and torch.equal(other.local, (one.local > 0.5).float())
    assert torch.equal(other.original, one.original)  # the stored image stays as it is


def test_a_blur_can_have_a_probability_for_each_view() -> None:
    p = sample(Standard(count=4, blur=(1.0, 0.1), solarise=(0.0, 0.2)), torch.arange(4000), (32, 32), 0, 0)
    blurred, solarised = (p.sigma > 0).double().mean(0), p.solarise.double().mean(0)
    assert blurred[0] == 1 and (blurred[1:] - 0.1).abs().max() < 4 * (0.09 / 4000) ** 0.5
    assert solarised[0] == 0 and (solarised[1:] - 0.2).abs().max() < 4 * (0.16 / 4000) ** 0.5
    assert 0.1 <= p.sigma[:, 0].min() < 0.11 and 1.99 < p.sigma[:, 0].max() <= 2


def test_numba_is_imported_when_views_are_made(in_python: Callable[[str], str]) -> None:
    code = "import sys, sslx, sslx.runs.session, sslx.data_loaders.views.standard as p; p.Standard(); print('numba' in sys.modules)"
    assert in_python(code) == "False"


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
    policy = Standard(count=2, hflip=0.5, vflip=0.1, brightness=0.4, contrast=1.5, hue=0.1, jitter=0.8, grey=0.2)
    p = sample(policy, torch.arange(10_000), (8, 8), seed=0, epoch=0)
    jittered = (p.factors[..., :2] != 1).any(-1)
    for drawn, probability in ((p.hflip, 0.5), (p.vflip, 0.1), (p.grey, 0.2), (jittered, 0.8)):
        assert abs(drawn.float().mean() - probability) < 4 * (probability * (1 - probability) / 20_000) ** 0.5
    brightness, contrast, saturation, hue = p.factors[jittered].unbind(-1)
    assert brightness.min() < 0.601 and brightness.max() > 1.399 and 0.6 <= brightness.min() <= brightness.max() <= 1.4
    assert contrast.min() < 0.001 and contrast.max() > 2.499 and 0 <= contrast.min() <= contrast.max() <= 2.5
    assert (saturation == 1).all() and -0.1 <= hue.min() < -0.099 and 0.099 < hue.max() <= 0.1
    counts = (p.order * torch.tensor([64, 16, 4, 1])).sum(-1).flatten().bincount()
    assert len(counts[counts > 0]) == 24 and chisquare(counts[counts > 0]).pvalue > 0.01


def test_no_two_quantities_share_their_randomness() -> None:
    """Correlations among 10 000 views: independent ones stay below 4.5 / sqrt(n)."""
    policy = Standard(
        crop=(0.2, 1.0), hflip=0.5, vflip=0.5, rotation=9, brightness=1, contrast=1, saturation=1, hue=0.5, jitter=0.5,
        grey=0.5, blur=0.5, solarise=0.5,
    )  # fmt: skip
    p = sample(policy, torch.arange(5000), (500, 500), seed=0, epoch=0)
    corner = (p.top / (501 - p.height), p.left / (501 - p.width))  # position in the room that the size leaves
    size = (p.height * p.width, p.height / p.width)
    jittered = (p.factors[..., :3] != 1).any(-1)
    drawn = (*corner, *size, p.hflip, p.vflip, p.angle, jittered, *p.factors.unbind(-1), p.order[..., 0], p.grey)
    drawn = (*drawn, p.sigma > 0, p.solarise, p.noise >> 40)
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
    belongs |= {factor: {"factors"} for factor in COLOURS} | {"blur": {"sigma"}}
    one, two = (
        sample(Standard(**options), torch.arange(100), (32, 24), seed=0, epoch=0)
        for options in (EVERYTHING, {k: v for k, v in EVERYTHING.items() if k != name})
    )
    changed = {drawn for drawn in vars(one) if not torch.equal(getattr(one, drawn), getattr(two, drawn))}
    assert changed == belongs.get(name, {name})
    if name in COLOURS:
        others = [i for i, other in enumerate(COLOURS) if other != name]
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
        ({"crop": (0.0, 1.0)}, "Standard.crop: expected a list of 2, each item a number > 0 and <= 1, got (0.0, 1.0)"),
        ({"kernel": 4}, "kernel: expected an odd number or 0, got 4"),
        ({"pad": 2, "crop": (0.5, 1.0)}, "pad: is an alternative to crop, expected crop=(1, 1) with it"),
        ({"hflip": 2}, "Standard.hflip: expected a number >= 0 and <= 1, got 2"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Standard(**options)
    assert str(error.value) == message


def test_kernels_of_triton_equal_the_torch_backend() -> None:
    """In a process of its own, as Triton decides when it is imported that it interprets."""
    pytest.importorskip("triton")
    done = subprocess.run([sys.executable, Path(__file__).with_name("interpreted.py")], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("equal\n"), done.stdout + done.stderr


def test_triton_is_for_cuda_alone() -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ConfigError, match=r"views.backend: triton needs triton and images on a CUDA device"):
        Standard(backend="triton")(images, torch.arange(1), seed=0, epoch=0)
