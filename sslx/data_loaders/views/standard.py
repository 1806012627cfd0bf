"""The standard views: the transformations of self-supervised learning, each view with its own parameters.

First all parameters are drawn (`draws`). Then they are applied, on the CPU by a compiled kernel (`numba_backend`), or
on any device by batched tensor operations (`torch_backend`).
"""

from __future__ import annotations

import functools
import importlib.util
import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslx.api import ConfigError, Use, ViewPolicy, Views, key, option, slot
from sslx.data_loaders.buffers import sent


class Standard(ViewPolicy):
    """Crop, flips, rotation, colour jitter, grey, blur, solarization and noise as in torchvision, in this order.

    Every view has its own parameters. All operations are off by default. Crop, flips and rotation are one resampling by
    antialiased bilinear interpolation. Images of one channel have neither saturation nor hue and are already grey.
    Views stay within [0, 1] unless there is noise, which is not clipped, and are binarized last.
    """

    size: int = option(default=0, ge=0, help="Side of a view in pixels; 0 keeps the size of the image.")
    crop: tuple[float, float] = option(
        default=(1.0, 1.0), gt=0, le=1, help="Range of the crop's share of the image area; (1, 1) means no crop."
    )
    ratio: tuple[float, float] = option(default=(3 / 4, 4 / 3), gt=0, help="Range of the crop's width over height.")
    pad: int = option(
        default=0, ge=0, help="Alternative to crop: pad by this many reflected pixels, then crop the image's size."
    )
    hflip: float = option(default=0.0, ge=0, le=1, help="Probability of swapping left and right.")
    vflip: float = option(default=0.0, ge=0, le=1, help="Probability of swapping top and bottom.")
    rotation: float = option(default=0.0, ge=0, le=180, help="Largest angle v in degrees, uniform in [-v, v].")
    fill: Literal["black", "edge"] = option(default="black", help="What surrounds the crop when it is rotated.")
    brightness: float = option(
        default=0.0, ge=0, help="Strength v of the jitter: factors are uniform in [max(0, 1 - v), 1 + v]."
    )
    contrast: float = option(default=0.0, ge=0, help="Strength of the contrast jitter, as for brightness.")
    saturation: float = option(default=0.0, ge=0, help="Strength of the saturation jitter, as for brightness.")
    hue: float = option(default=0.0, ge=0, le=0.5, help="Largest shift v of the hue in turns, uniform in [-v, v].")
    jitter: float = option(default=1.0, ge=0, le=1, help="Probability of the jitter of all four, in random order.")
    grey: float = option(default=0.0, ge=0, le=1, help="Probability of removing all colour.")
    blur: float | tuple[float, ...] = option(
        default=0.0, ge=0, le=1, help="Probability of a blur. A list has one for each view, the last for all others."
    )
    sigma: tuple[float, float] = option(default=(0.1, 2.0), gt=0, help="Range of the blur's width (σ) in pixels.")
    kernel: int = option(default=0, ge=0, help="Width of a blur in pixels, odd; 0 is a tenth of the view, at least 3.")
    solarise: float | tuple[float, ...] = option(
        default=0.0, ge=0, le=1, help="Probability of inverting pixels brighter than half. A list is as for blur."
    )
    noise: float = option(default=0.0, ge=0, help="Standard deviation of the Gaussian noise in every view.")
    binarize: bool = option(
        default=False, help="Whether pixels above 0.5 become 1, and all others 0, after all other operations."
    )
    local: Standard | None = slot(default=None, help="Policy of further, usually smaller views (multi-crop).")
    backend: Literal["auto", "torch", "compiled", "numba", "triton"] = option(
        default="auto",
        help="How views are made: by numba (CPU only), by triton (CUDA only), by torch, or by torch.compile "
        "(compiled), which takes a minute to start. With auto, numba is used for images on the CPU, triton on CUDA if "
        "it is installed, as it is with torch, and torch otherwise.",
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
            problems.append("pad: is an alternative to crop, expected crop=(1, 1) with it")
        if problems:
            raise ConfigError(problems)

    def shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the views. Raises ConfigError if channels that are not colours are changed as colours."""
        C = image_shape[0]
        colours = [name for name in ("saturation", "hue", "grey") if getattr(self, name)]
        if C not in (1, 3) and colours:
            changed = ", ".join(f"views.{name}" for name in colours)
            raise ConfigError(f"{changed}: expected images of 1 or 3 channels, got {C}")
        return (C, self.size, self.size) if self.size else image_shape

    def law(self, height: int, width: int) -> Any:
        """The `draws.Law` of the views of images of (height, width)."""
        from sslx.data_loaders.views.draws import Law  # imports numba, which is slow

        h, w = (self.size, self.size) if self.size else (height, width)
        brightness, contrast, saturation, hue = self.brightness, self.contrast, self.saturation, self.hue
        return Law(
            views=self.count,
            size=(h, w),
            crop=self.crop,
            log_ratio=(math.log(self.ratio[0]), math.log(self.ratio[1])),
            ratio=self.ratio,
            pad=self.pad,
            hflip=self.hflip,
            vflip=self.vflip,
            rotation=self.rotation,
            edge=self.fill == "edge",
            low=(max(1 - brightness, 0.0), max(1 - contrast, 0.0), max(1 - saturation, 0.0), -hue),
            high=(1 + brightness, 1 + contrast, 1 + saturation, hue),
            jitter=self.jitter,
            grey=self.grey,
            blur=_by_view(self.blur, self.count),
            sigma=self.sigma,
            radius=(self.kernel or max(3, min(h, w) // 20 * 2 + 1)) // 2,
            solarise=_by_view(self.solarise, self.count),
            noise=self.noise,
        )

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        """(N, C, H, W) uint8 images and their (N,) positions in the dataset -> their views.

        The views are made on the device of the images. An index on the CPU avoids waiting for another device. Crops are
        drawn in the (N, 2) `sizes` that the images had before they were stored as (H, W), if these are given.

        Raises ConfigError for images that are too small, of floats, or on another device than the backend needs.
        """
        original, x = self._make(images, index, sizes, seed, epoch, first=0)
        local = None if self.local is None else self.local._make(images, index, sizes, seed, epoch, self.count)[1]
        return Views(x=x, original=original, index=sent(index, images.device), local=local)

    def _make(
        self, images: Tensor, index: Tensor, sizes: Tensor | None, seed: int, epoch: int, first: int
    ) -> tuple[Tensor, Tensor]:
        """The images as floats, and their views, of which the first has the number `first`."""
        if images.dtype != torch.uint8:
            raise ConfigError(f"views: expected images of uint8, got {images.dtype}; use views=noise for such data")
        height, width = images.shape[-2:]
        law, on_cpu = self.law(height, width), images.device.type == "cpu"
        if self.pad >= min(height, width) or (self.blur and law.radius >= min(law.size)):
            raise ConfigError(f"views: images of {height}x{width} are too small for views.pad or views.kernel")
        if self.backend == "numba" and not on_cpu:
            raise ConfigError(f"views.backend: numba needs images on the CPU, these are on {images.device}; use auto")
        if self.backend == "triton" and not _triton(images.device):
            reason = f"needs triton and images on a CUDA device, these are on {images.device}"
            raise ConfigError(f"views.backend: triton {reason}; use auto")
        stored = np.full((len(images), 2), (height, width), np.int64)
        drawn_in = stored if sizes is None else sizes.cpu().long().contiguous().numpy()
        arguments = (law, images, index, drawn_in, _base(seed, epoch), first)
        if on_cpu and self.backend in ("auto", "numba"):
            from sslx.data_loaders.views import numba_backend

            original, x = numba_backend.make(*arguments)
        elif self.backend in ("auto", "triton") and _triton(images.device):
            from sslx.data_loaders.views import triton_backend

            original, x = triton_backend.make(*arguments)
        else:
            from sslx.data_loaders.views import torch_backend

            original, x = torch_backend.make(*arguments, compiled=self.backend == "compiled")
        return original, (x > 0.5).to(x.dtype) if self.binarize else x


@functools.lru_cache(maxsize=16)  # every batch asks for it
def _base(seed: int, epoch: int) -> int:
    """The key that the keys of all views of an epoch extend."""
    return int(key(Use.VIEWS, seed, epoch))


def _triton(device: torch.device) -> bool:
    """Whether Triton's kernels can make views on a device."""
    return device.type == "cuda" and torch.version.hip is None and importlib.util.find_spec("triton") is not None


def _by_view(probability: float | tuple[float, ...], count: int) -> NDArray[np.float64]:
    """A probability for each view, (count,); the last one of a tuple holds for all views that follow."""
    several = probability if isinstance(probability, tuple) else (probability,)
    return np.array([several[min(j, len(several) - 1)] for j in range(count)], np.float64)
