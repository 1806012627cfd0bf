"""The parameters of every view, drawn as a pure function of (seed, epoch, index, view).

Compiled by numba, because two thousand views of a batch take 0.3 ms so and ten times that in tensor operations. Both
backends take what is drawn here. The numbers are those of `sslx.api.uniform(key(Use.VIEWS, seed, epoch, index, view))`.

numba keeps the compiled code on disk until this file changes, whatever else it used: so nothing here may depend on a
number of another file of ours.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

# The position of each quantity among the draws of a view. Fixed, so that switching one option on leaves the numbers of
# the others as they were. Add new ones at the end.
_AREA = 0  # and the nine that follow: ten tries of a crop that fits, as in torchvision
_RATIO = 10  # likewise
_TRIES = 10
_TOP, _LEFT, _HFLIP, _VFLIP, _JITTER = 20, 21, 22, 23, 24
_FACTORS = (25, 26, 27, 32)  # of brightness, contrast, saturation, hue
_ORDER = (28, 29, 30, 33)
_NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # the factors that change nothing
_GREY, _ANGLE, _BLUR, _SIGMA, _SOLARISE = 31, 34, 35, 36, 37

#: What is done to one view. A crop is in whole pixels of the image, of one padded by reflection if it starts below 0.
PARAMETERS = np.dtype(
    [
        ("top", np.int64),
        ("left", np.int64),
        ("height", np.int64),
        ("width", np.int64),
        ("hflip", np.bool_),
        ("vflip", np.bool_),
        ("angle", np.float32),  # degrees, counter-clockwise
        ("factors", np.float32, 4),  # of brightness, contrast, saturation (1 changes nothing) and hue (0)
        ("order", np.int8, 4),  # which of the four is first, second, third, fourth
        ("grey", np.bool_),
        ("sigma", np.float32),  # of the blur, in pixels; 0 is none
        ("solarise", np.bool_),
        ("noise", np.int64),  # the key of the view's noise
    ],
    align=True,
)


class Law(NamedTuple):
    """What parameters are drawn from: the options of a policy as plain numbers."""

    crop: tuple[float, float]
    log_ratio: tuple[float, float]
    ratio: tuple[float, float]
    pad: int
    hflip: float
    vflip: float
    rotation: float
    low: tuple[float, float, float, float]  # of the factors
    high: tuple[float, float, float, float]
    jitter: float
    grey: float
    blur: NDArray[Any]  # (J,), a probability for each view, as below
    sigma: tuple[float, float]
    solarise: NDArray[Any]


@njit
def _mix(x: int) -> int:
    """SplitMix64's finaliser on signed integers, as `sslx.api.mix`."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * (0xBF58476D1CE4E5B9 - (1 << 64))
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * (0x94D049BB133111EB - (1 << 64))
    return x ^ ((x >> 31) & ((1 << 33) - 1))


@njit
def _extend(key: int, part: int) -> int:
    """The key of one more part, as in `sslx.api.key`."""
    return _mix((key ^ part) + (0x9E3779B97F4A7C15 - (1 << 64)))


@njit
def _uniform(key: int, position: int) -> float:
    """The draw at a position: a multiple of 2⁻²⁴ in [0, 1), as `sslx.api.uniform`."""
    bits = _mix(key + (position + 1) * (0x9E3779B97F4A7C15 - (1 << 64)))
    return ((bits >> 40) & ((1 << 24) - 1)) * 2.0**-24


@njit
def _between(key: int, position: int, low: float, high: float) -> float:
    return low + (high - low) * _uniform(key, position)


@njit
def _crop(law: Law, key: int, H: int, W: int) -> tuple[int, int, int, int]:
    """Top, left, height and width by the law of torchvision's RandomResizedCrop."""
    if law.crop == (1.0, 1.0):
        return 0, 0, H, W
    for i in range(_TRIES):
        area = H * W * _between(key, _AREA + i, *law.crop)
        ratio = math.exp(_between(key, _RATIO + i, *law.log_ratio))
        height, width = int(np.rint(math.sqrt(area / ratio))), int(np.rint(math.sqrt(area * ratio)))
        if 0 < height <= H and 0 < width <= W:
            top = int(_uniform(key, _TOP) * (H - height + 1))
            return top, int(_uniform(key, _LEFT) * (W - width + 1)), height, width
    height, width = H, W  # no try fitted: the largest in the middle that is within the range of ratios
    if H * law.ratio[0] > W:
        height = max(1, int(np.rint(W / law.ratio[0])))
    elif H * law.ratio[1] < W:
        width = max(1, int(np.rint(H * law.ratio[1])))
    return (H - height) // 2, (W - width) // 2, height, width


@njit
def _stored(start: int, length: int, size: int, pixels: int) -> tuple[int, int]:
    """Start and length in whole pixels, at least one, of an interval on an axis of `size` stored in `pixels`."""
    begin = min(int(np.rint(start * pixels / size)), pixels - 1)
    end = int(np.rint((start + length) * pixels / size))
    return begin, max(end - begin, 1)


@njit(cache=True, nogil=True)
def draw(
    law: Law, base: int, index: NDArray[Any], sizes: NDArray[Any], first: int, H: int, W: int, table: NDArray[Any]
) -> None:
    """Fill in the parameters of all views of some samples.

    Args:
        law: what they are drawn from.
        base: the key of (seed, epoch).
        index: positions of the samples in their dataset, (N,) int64.
        sizes: height and width in which a crop is drawn, those that each image had before it was stored, (N, 2) int64.
        first: number of the first view.
        H, W: size of the images as they are stored, of whose pixels a crop is made.
        table: (N, J) of PARAMETERS, written.
    """
    for n in range(len(index)):
        sample = _extend(base, index[n])
        for j in range(table.shape[1]):
            key, p = _extend(sample, first + j), table[n, j]
            if law.pad:  # as torchvision's padded RandomCrop
                p.top = int(_uniform(key, _TOP) * (2 * law.pad + 1)) - law.pad
                p.left = int(_uniform(key, _LEFT) * (2 * law.pad + 1)) - law.pad
                p.height, p.width = H, W
            else:
                top, left, height, width = _crop(law, key, sizes[n, 0], sizes[n, 1])
                p.top, p.height = _stored(top, height, sizes[n, 0], H)
                p.left, p.width = _stored(left, width, sizes[n, 1], W)
            p.hflip = _uniform(key, _HFLIP) < law.hflip
            p.vflip = _uniform(key, _VFLIP) < law.vflip
            p.angle = _between(key, _ANGLE, -law.rotation, law.rotation)
            jittered = _uniform(key, _JITTER) < law.jitter
            for i in range(4):
                p.factors[i] = _between(key, _FACTORS[i], law.low[i], law.high[i]) if jittered else _NEUTRAL[i]
                rank = 0  # by insertion: the adjustment with the smallest draw comes first
                for other in range(4):
                    mine, its = _uniform(key, _ORDER[i]), _uniform(key, _ORDER[other])
                    rank += its < mine or (its == mine and other < i)
                p.order[rank] = i
            p.grey = _uniform(key, _GREY) < law.grey
            blurred = _uniform(key, _BLUR) < law.blur[j]
            p.sigma = _between(key, _SIGMA, law.sigma[0], law.sigma[1]) if blurred else 0.0
            p.solarise = _uniform(key, _SOLARISE) < law.solarise[j]
            p.noise = _extend(key, 1)
