"""The standard views: what self-supervised methods do to an image, with parameters of their own for each view.

First all parameters are drawn (`draws`), then they are applied, by a kernel on the CPU (`threaded`) or by batched
tensor operations on any device (`batched`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sslx.api import ConfigError, ViewPolicy, Views, option, slot


class Standard(ViewPolicy):
    """Crop, flips, rotation, colour jitter, grey, blur, solarising and noise as torchvision makes them, in this order.

    Every view has parameters of its own. All is off by default. Crop, flips and rotation are one resampling, by
    antialiased bilinear interpolation. Images of one channel have neither saturation nor hue and are grey already.
    Views stay within [0, 1], unless there is noise, which is not clipped.
    """

    size: int = option(default=0, ge=0, help="side of a view, in pixels; 0 is the size of the image")
    crop: tuple[float, float] = option(
        default=(1.0, 1.0), gt=0, le=1, help="range of a crop's share of the image area; (1, 1) is no crop"
    )
    ratio: tuple[float, float] = option(
        default=(3 / 4, 4 / 3), gt=0, help="range of a crop's width over height, before it is resized"
    )
    pad: int = option(default=0, ge=0, help="instead: pad by reflection, then crop the size of the image anywhere")
    hflip: float = option(default=0.0, ge=0, le=1, help="probability of swapping left and right")
    vflip: float = option(default=0.0, ge=0, le=1, help="probability of swapping top and bottom")
    rotation: float = option(default=0.0, ge=0, le=180, help="v: the angle in degrees is uniform in [-v, v]")
    fill: Literal["black", "edge"] = option(default="black", help="what a rotation brings in from outside the crop")
    brightness: float = option(default=0.0, ge=0, help="v: the factor is uniform in [max(0, 1 - v), 1 + v]")
    contrast: float = option(default=0.0, ge=0, help="as brightness")
    saturation: float = option(default=0.0, ge=0, help="as brightness; colour images only")
    hue: float = option(default=0.0, ge=0, le=0.5, help="v: the shift is uniform in [-v, v] of the colour circle")
    jitter: float = option(default=1.0, ge=0, le=1, help="probability of brightness to hue together, in random order")
    grey: float = option(default=0.0, ge=0, le=1, help="probability of removing all colour")
    blur: float | tuple[float, ...] = option(
        default=0.0, ge=0, le=1, help="probability of a Gaussian blur; a list is for each view, the last for the rest"
    )
    sigma: tuple[float, float] = option(default=(0.1, 2.0), gt=0, help="range of the blur's width, in pixels")
    kernel: int = option(default=0, ge=0, help="pixels that a blur spans, odd; 0 is a tenth of the view, at least 3")
    solarise: float | tuple[float, ...] = option(
        default=0.0, ge=0, le=1, help="probability of inverting what is brighter than half; a list as for blur"
    )
    noise: float = option(default=0.0, ge=0, help="standard deviation of Gaussian noise, in every view")
    local: Standard | None = slot(default=None, help="a policy for further views, usually smaller (multi-crop)")
    backend: Literal["auto", "torch", "compiled", "numba"] = option(
        default="auto",
        help="what makes the views; auto: numba for images on the CPU, torch for all others; compiled: torch through "
        "torch.compile, which takes a minute to start",
    )

    def __attrs_post_init__(self) -> None:
        problems = [
            f"{name}: expected the smaller number first, got ({low:g}, {high:g})"
            for name, (low, high) in {"crop": self.crop, "ratio": self.ratio, "sigma": self.sigma}.items()
            if low > high
        ]
        if self.kernel % 2 == 0 and self.kernel:
            problems.append(f"kernel: expected an odd number or 0, got {self.kernel}")
        if self.pad and self.crop != (1.0, 1.0):
            problems.append("pad: is another way to crop, expected crop=(1, 1) with it")
        if problems:
            raise ConfigError(problems)

    @property
    def crops(self) -> bool:
        return self.crop != (1.0, 1.0) or self.pad > 0

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the views of an image."""
        return (self.size, self.size) if self.size else (height, width)

    def radius(self, height: int, width: int) -> int:
        """How many pixels away a blur reaches in views of (height, width)."""
        return (self.kernel or max(3, min(height, width) // 20 * 2 + 1)) // 2

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        """(N, C, H, W) uint8 images and their (N,) positions in the dataset -> their views.

        The views are made where the images are. An index on the CPU spares waiting for another device. A crop is drawn
        in the (N, 2) `sizes` that the images had before all were stored as (H, W), if they had others.
        """
        original, x = self._make(images, index, sizes, seed, epoch, first=0)
        local = None if self.local is None else self.local._make(images, index, sizes, seed, epoch, self.count)[1]
        return Views(x=x, original=original, index=index.to(images.device), local=local)

    def _make(
        self, images: Tensor, index: Tensor, sizes: Tensor | None, seed: int, epoch: int, first: int
    ) -> tuple[Tensor, Tensor]:
        """The images as floats and their views, which are numbered from `first` on."""
        if images.dtype != torch.uint8:
            raise ConfigError(f"views: expected images of uint8, got {images.dtype}; use views=noise for such data")
        height, width = images.shape[-2:]
        h, w = self.shape(height, width)
        if self.pad >= min(height, width) or (self.blur and self.radius(h, w) >= min(h, w)):
            raise ConfigError(f"views: images of {height}x{width} are too small for this pad or kernel of the blur")
        on_cpu = images.device.type == "cpu"
        if self.backend == "numba" and not on_cpu:
            raise ConfigError(f"views.backend: numba makes views on the CPU only, the images are on {images.device}")
        # Imported here, as numba is slow to import.
        if on_cpu and self.backend in ("auto", "numba"):
            from sslx.data_loaders.views.numba_backend import make
        else:
            from sslx.data_loaders.views.torch_backend import make
        return make(self, images, index, sizes, seed, epoch, first)
