"""Pictures of images."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from sslx.outputs.pictures import tiled


@pytest.mark.parametrize(("n", "channels", "columns", "gap"), [(7, 3, 3, 2), (4, 1, 8, 2), (1, 3, 4, 2), (6, 1, 3, 0)])
def test_images_stand_as_torchvision_puts_them(n: int, channels: int, columns: int, gap: int) -> None:
    from torchvision.utils import save_image

    images = torch.rand(n, channels, 5, 4, generator=torch.Generator().manual_seed(n))
    save_image(images, file := io.BytesIO(), format="png", nrow=columns, padding=gap, pad_value=0.5)
    assert np.array_equal(np.asarray(tiled(images, columns, gap, 0.5)), np.asarray(Image.open(file)))


def test_a_run_does_not_wait_for_torchvision() -> None:
    code = "import sys, sslx; sslx.run, sslx.open_run; assert 'torchvision' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
