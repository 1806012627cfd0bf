"""Images of several sizes are stored at one, and the crops of their views are drawn in the sizes they had."""

from typing import Any

import pytest
import torch
from drawn import sample
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from sslx.data_loaders.views.standard import Standard

SIDES = ("top", "left", "height", "width")


@pytest.mark.parametrize("size", [(100, 300), (300, 100), (120, 90)])
def test_a_box_is_distributed_as_torchvision_s_in_the_original(size: tuple[int, int]) -> None:
    H, W = size
    n, policy, stored = 4000, Standard(crop=(0.1, 1.0), count=1), (3600, 3600)  # a multiple: the box can be mapped back
    drawn = sample(policy, torch.arange(n), stored, 0, 0, sizes=torch.tensor([size]).expand(n, 2))
    torch.manual_seed(0)
    expected = [RandomResizedCrop.get_params(torch.zeros(1, H, W), [0.1, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]
    for name, theirs in zip(SIDES, zip(*expected, strict=True), strict=True):
        scale = 3600 // (H if name in ("top", "height") else W)
        ours = getattr(drawn, name)[:, 0]
        assert (ours % scale == 0).all()
        assert ks_2samp(ours // scale, theirs).pvalue > 1e-3
    square = sample(policy, torch.arange(n), stored, 0, 0)  # drawn in what is stored, which is another law
    assert ks_2samp(square.width[:, 0] / 3600 * W, [box[3] for box in expected]).pvalue < 1e-6


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_view_is_cut_from_the_stretched_image(backend: Any) -> None:
    sizes = torch.tensor([(40, 90), (64, 20), (32, 32), (7, 500)])
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    policy, index = Standard(crop=(0.2, 1.0), hflip=0.5, count=6, backend=backend), torch.tensor([5, 0, 9, 2])
    views = policy(images, index, seed=1, epoch=2, sizes=sizes)
    for n, (H, W) in enumerate(sizes.tolist()):
        box = sample(policy, index[n : n + 1], (H, W), 1, 2)
        for j in range(6):
            top, left, height, width = (int(getattr(box, name)[0, j]) for name in SIDES)
            y, x = min(round(top * 32 / H), 31), min(round(left * 32 / W), 31)
            h, w = max(round((top + height) * 32 / H) - y, 1), max(round((left + width) * 32 / W) - x, 1)
            expected = F.resized_crop(images[n].float() / 255, y, x, h, w, [32, 32], antialias=True)
            expected = F.hflip(expected) if box.hflip[0, j] else expected
            assert (views.x[n, j] - expected).abs().max() < 1e-5


def test_images_that_keep_their_size_have_the_views_they_had() -> None:
    images, index = torch.randint(0, 256, (5, 3, 20, 24)).byte(), torch.arange(5)
    policy = Standard(crop=(0.2, 1.0))
    sizes = torch.tensor([(20, 24)]).expand(5, 2)
    assert torch.equal(policy(images, index, seed=1, epoch=2).x, policy(images, index, seed=1, epoch=2, sizes=sizes).x)
