"""All random numbers of the views, drawn as a pure function of (seed, epoch, index, view).

numba compiles this code: two thousand views take 0.3 ms, a tenth of the time that tensor operations need. Both backends
use what is drawn here. The numbers are those of `sslx.api.uniform(key(Use.VIEWS, seed, epoch, index, view))`.

numba keeps the compiled code on disk until this file changes; it does not notice changes in other files. So nothing
here may depend on a number or a class that another file of sslx defines.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

# The position of each quantity among the draws of a view. The positions are fixed, so that switching one option on does
# not change the numbers of the others. Add new quantities at the end.
_AREA = 0  # and the nine positions after it: ten tries to draw a crop that fits, as in torchvision
_RATIO = 10  # and the nine positions after it
_TRIES = 10
_TOP, _LEFT, _HFLIP, _VFLIP, _JITTER = 20, 21, 22, 23, 24
_FACTORS = (25, 26, 27, 32)  # brightness, contrast, saturation, hue
_ORDER = (28, 29, 30, 33)
_NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # the factors that change nothing
_GREY, _ANGLE, _BLUR, _SIGMA, _SOLARISE = 31, 34, 35, 36, 37

#: The parameters of one view. A crop is in whole pixels of the image; where it starts below 0 or ends beyond the image,
#: the image is padded by reflection.
PARAMETERS = np.dtype(
    [
        ("top", np.int64),
        ("left", np.int64),
        ("height", np.int64),
        ("width", np.int64),
        ("hflip", np.bool_),
        ("vflip", np.bool_),
        ("angle", np.float32),  # degrees counterclockwise
        ("factors", np.float32, 4),  # brightness, contrast, saturation (1: no change) and hue (0: no change)
        ("order", np.int8, 4),  # which of the four is applied first, second, third, fourth
        ("grey", np.bool_),
        ("sigma", np.float32),  # standard deviation of the blur in pixels; 0: no blur
        ("solarise", np.bool_),
        ("noise", np.int64),  # the key of the random numbers of the view's noise
    ],
    align=True,
)


class Law(NamedTuple):
    """Everything that determines the views of a batch, apart from the images: a policy's options as plain numbers."""

    views: int  # J, the number of views of each image
    size: tuple[int, int]  # height and width of a view, (h, w)
    crop: tuple[float, float]
    log_ratio: tuple[float, float]
    ratio: tuple[float, float]
    pad: int
    hflip: float
    vflip: float
    rotation: float
    edge: bool  # whether a rotation repeats the edge of the crop around it; otherwise the surroundings are black
    low: tuple[float, float, float, float]  # smallest factors of brightness, contrast, saturation and hue
    high: tuple[float, float, float, float]  # largest factors
    jitter: float
    grey: float
    blur: NDArray[Any]  # probability of a blur for each view, (J,)
    sigma: tuple[float, float]
    radius: int  # how many pixels away the blur reaches
    solarise: NDArray[Any]  # probability for each view, (J,)
    noise: float  # standard deviation


@njit
def _mix(x: int) -> int:
    """SplitMix64's finalizer on signed integers, equal to `sslx.api.mix`."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * (0xBF58476D1CE4E5B9 - (1 << 64))
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * (0x94D049BB133111EB - (1 << 64))
    return x ^ ((x >> 31) & ((1 << 33) - 1))


@njit
def _extend(key: int, part: int) -> int:
    """A key extended by one more part, as in `sslx.api.key`."""
    return _mix((key ^ part) + (0x9E3779B97F4A7C15 - (1 << 64)))


@njit
def _bits(key: int, position: int) -> int:
    """64 random bits, equal to those of `sslx.api.bits`."""
    return _mix(key + (position + 1) * (0x9E3779B97F4A7C15 - (1 << 64)))


@njit
def _uniform(key: int, position: int) -> float:
    """The draw at a position: a multiple of 2⁻²⁴ in [0, 1), equal to that of `sslx.api.uniform`."""
    return ((_bits(key, position) >> 40) & ((1 << 24) - 1)) * 2.0**-24


@njit
def _between(key: int, position: int, low: float, high: float) -> float:
    return low + (high - low) * _uniform(key, position)


@njit
def _crop(law: Law, key: int, H: int, W: int) -> tuple[int, int, int, int]:
    """Top, left, height and width, distributed as those of torchvision's RandomResizedCrop."""
    if law.crop == (1.0, 1.0):
        return 0, 0, H, W
    for i in range(_TRIES):
        area = H * W * _between(key, _AREA + i, *law.crop)
        ratio = math.exp(_between(key, _RATIO + i, *law.log_ratio))
        height, width = int(np.rint(math.sqrt(area / ratio))), int(np.rint(math.sqrt(area * ratio)))
        if 0 < height <= H and 0 < width <= W:
            top = int(_uniform(key, _TOP) * (H - height + 1))
            return top, int(_uniform(key, _LEFT) * (W - width + 1)), height, width
    height, width = H, W  # no try fitted: the largest central crop with a ratio in the range
    if H * law.ratio[0] > W:
        height = max(1, int(np.rint(W / law.ratio[0])))
    elif H * law.ratio[1] < W:
        width = max(1, int(np.rint(H * law.ratio[1])))
    return (H - height) // 2, (W - width) // 2, height, width


@njit
def _stored(start: int, length: int, size: int, pixels: int) -> tuple[int, int]:
    """Map an interval on an axis of `size` to whole pixels, at least one, of the same axis stored in `pixels`."""
    begin = min(int(np.rint(start * pixels / size)), pixels - 1)
    end = int(np.rint((start + length) * pixels / size))
    return begin, max(end - begin, 1)


@njit(cache=True, nogil=True)
def draw(
    law: Law, base: int, index: NDArray[Any], sizes: NDArray[Any], first: int, H: int, W: int, table: NDArray[Any]
) -> None:
    """Fill in the parameters of all views of some samples.

    Args:
        base: the key of (seed, epoch).
        index: positions of the samples in their dataset, (N,) int64.
        sizes: heights and widths of the images before they were stored, (N, 2) int64; crops are drawn in these.
        first: number of the first view.
        H, W: height and width of the stored images; crops are converted to their pixels.
        table: (N, J) of PARAMETERS, overwritten.
    """
    for n in range(len(index)):
        sample = _extend(base, index[n])
        for j in range(table.shape[1]):
            key, p = _extend(sample, first + j), table[n, j]
            if law.pad:  # as in torchvision's padded RandomCrop
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
                rank = 0  # the adjustment with the smallest draw comes first
                for other in range(4):
                    mine, its = _uniform(key, _ORDER[i]), _uniform(key, _ORDER[other])
                    rank += its < mine or (its == mine and other < i)
                p.order[rank] = i
            p.grey = _uniform(key, _GREY) < law.grey
            blurred = _uniform(key, _BLUR) < law.blur[j]
            p.sigma = _between(key, _SIGMA, law.sigma[0], law.sigma[1]) if blurred else 0.0
            p.solarise = _uniform(key, _SOLARISE) < law.solarise[j]
            p.noise = _extend(key, 1)


@njit(cache=True, nogil=True, fastmath=True)
def add_noise(keys: NDArray[Any], scale: float, quantiles: NDArray[Any], x: NDArray[Any]) -> None:
    """Add normal noise to views; each 64 random bits choose four of 2¹⁶ quantiles of the normal distribution.

    Args:
        keys: of the views' noise, (N, J) int64.
        scale: standard deviation.
        quantiles: of the standard normal distribution, (2¹⁶,) float32.
        x: (N, J, C, h, w) float32, changed in place.
    """
    factor, views, whole = np.float32(scale), x.reshape(keys.size, -1), x[0, 0].size // 4
    for v, key in enumerate(keys.flat):
        view = views[v]
        for i in range(whole):
            bits = np.uint64(_bits(key, i))
            for k in range(4):
                view[4 * i + k] += factor * quantiles[np.uint16(bits >> np.uint64(16 * k))]
        bits = np.uint64(_bits(key, whole))
        for k in range(len(view) - 4 * whole):
            view[4 * whole + k] += factor * quantiles[np.uint16(bits >> np.uint64(16 * k))]
