"""The standard views on the CPU, compiled by numba, one view at a time, so that the view stays in the nearest cache.

Every operation is equal to that of `torch_backend`, which the tests compare it with. It is fast because each inner loop
runs over a row or a plane, and nothing in it keeps the compiler from using vector instructions. Therefore numbers are
float32, literals included; indices are unsigned, which avoids a test for Python's negative ones; rows are not slices,
and all functions are inlined, because a slice, or a call with arrays, costs as much as a row of 32 pixels.

All compiled code is in this file, because numba keeps it on disk until this file changes and does not notice changes in
other files.
"""

import functools
import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]
_fast = functools.partial(njit, fastmath=True, forceinline=True)  # sums in any order can be vectorized
_BLOCK = 32  # rows, or kilobytes: what stays in the nearest cache
_0, _1, _2, _3, _4, _5, _6 = np.arange(7, dtype=np.float32)
_HALF = np.float32(0.5)
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)  # as in `colour`


@njit(cache=True, nogil=True)
def to_float(images: Array, x: Array) -> None:
    """(n,) uint8 -> (n,) float32 in [0, 1]. Not a fast function: these would multiply by a rounded 1/255 instead."""
    for i in range(len(x)):
        x[i] = np.float32(images[i]) / np.float32(255)


# --- eight pixels at a time -------------------------------------------------------------------------------------------
#
# numba vectorizes long loops automatically. Rows of 32 pixels are too short for this to be worthwhile, so these three
# functions contain the vector instructions. Positions count elements from the beginning of contiguous arrays and are
# not checked.

_VECTOR = ir.VectorType(ir.FloatType(), 8)


def _at(context: Any, builder: Any, kind: Any, array: Any, position: Any) -> Any:
    """Pointer to the eight elements of an array that begin at a position."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [position]), _VECTOR.as_pointer())


def _times(builder: Any, weight: Any, x: Any) -> Any:
    """weight · x for a number and eight pixels."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), weight, ir.Constant(ir.IntType(32), 0))
    eight = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8))
    return builder.fmul(eight, x, flags=["fast"])


def _sum(builder: Any, x: Any, y: Any) -> Any:
    """min(x + y, 1), because the weights of pixels can add up to more than 1 by rounding."""
    total, one = builder.fadd(x, y, flags=["fast"]), ir.Constant(_VECTOR, [1.0] * 8)
    return builder.select(builder.fcmp_ordered("<", total, one), total, one)


@intrinsic
def _weigh8(typing: Any, new: Any, at: Any, old: Any, a: Any, b: Any, wa: Any, wb: Any) -> Any:
    """new[at:] = min(wa · old[a:] + wb · old[b:], 1) for eight elements."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        new, at, old, a, b, wa, wb = values
        kinds = signature.args
        x, y = (builder.load(_at(context, builder, kinds[2], old, i), align=4) for i in (a, b))
        both = _sum(builder, _times(builder, wa, x), _times(builder, wb, y))
        builder.store(both, _at(context, builder, kinds[0], new, at), align=4)
        return context.get_dummy_value()

    return types.void(new, types.uint64, old, types.uint64, types.uint64, types.float32, types.float32), codegen


@intrinsic
def _add8(typing: Any, new: Any, at: Any, old: Any, a: Any, wa: Any) -> Any:
    """new[at:] = min(new[at:] + wa · old[a:], 1) for eight elements."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        new, at, old, a, wa = values
        kinds = signature.args
        place = _at(context, builder, kinds[0], new, at)
        x = builder.load(_at(context, builder, kinds[2], old, a), align=4)
        total = _sum(builder, builder.load(place, align=4), _times(builder, wa, x))
        builder.store(total, place, align=4)
        return context.get_dummy_value()

    return types.void(new, types.uint64, old, types.uint64, types.float32), codegen


@intrinsic
def _transpose8(typing: Any, old: Any, a: Any, n: Any, new: Any, b: Any, m: Any) -> Any:
    """new[b + j·m + i] = old[a + i·n + j] for i, j < 8."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        old, a, n, new, b, m = values
        kinds, mask = signature.args, ir.VectorType(ir.IntType(32), 8)

        def row(kind: Any, array: Any, start: Any, stride: Any, i: int) -> Any:
            offset = builder.mul(stride, ir.Constant(stride.type, i))
            return _at(context, builder, kind, array, builder.add(start, offset))

        x = [builder.load(row(kinds[0], old, a, n, i), align=4) for i in range(8)]
        for bit in (1, 2, 4):  # swap this bit of the row with that of the column
            for i in (i for i in range(8) if not i & bit):
                low = [j + 8 - bit if j & bit else j for j in range(8)]
                high = [j + 8 if j & bit else j + bit for j in range(8)]
                x[i], x[i + bit] = (
                    builder.shuffle_vector(x[i], x[i + bit], ir.Constant(mask, order)) for order in (low, high)
                )
        for i in range(8):
            builder.store(x[i], row(kinds[3], new, b, m, i), align=4)
        return context.get_dummy_value()

    size = types.uint64
    return types.void(old, size, size, new, size, size), codegen


# --- geometry ---------------------------------------------------------------------------------------------------------


@_fast
def _reflect(i: int, size: int) -> int:
    """The pixel at position i of an axis that is continued by reflection, -size < i < 2·size - 1."""
    i = abs(i)
    return i if i < size else 2 * (size - 1) - i


@_fast
def _average(start: int, length: int, size: int, centre: float, old: Array, weight: Array, at: int) -> None:
    """The old pixels of an axis whose weighted average is the new pixel at `centre`, by the triangle of `resample`.

    Args:
        start, length: the box in pixels of an axis of `size`; it is reflected where it leaves the axis.
        centre: in pixels from the start of the box.
        old, weight: the old pixels and their weights, (taps, new pixels); column `at` is overwritten.
    """
    support = max(length / weight.shape[1], 1.0)
    first = max(int(centre - support + 0.5), 0)
    total = 0.0
    for k in range(len(weight)):
        w = 1 - abs(first + k + 0.5 - centre) / support if first + k < length else 0.0
        weight[k, at] = max(w, 0.0)
        total += weight[k, at]
        old[k, at] = _reflect(start + min(first + k, length - 1), size)
    for k in range(len(weight)):
        weight[k, at] /= total


_exact = functools.partial(njit, forceinline=True)  # rounds each product, as torchvision and `torch_backend` do


@_exact
def _pair(centre: Any, start: Any, last: Any, mirror: Any) -> tuple[Any, Any, Any]:
    """`_average` if nothing shrinks: two old pixels and the weight of the second one. All numbers are float32.

    Args:
        start: the first pixel of the box.
        last: the last pixel of the box, counted from its start.
        mirror: twice the last pixel of the axis, which is the sum of a place and its reflection at the far end.
    """
    place = min(max(centre - _HALF, _0), last)
    left = np.float32(np.int32(place))
    a, b = abs(start + left), abs(start + min(left + _1, last))
    return np.uint32(np.int32(min(a, mirror - a))), np.uint32(np.int32(min(b, mirror - b))), place - left


@_exact
def _pairs(start: int, length: int, flip: bool, size: int, old: Array, weight: Array) -> None:
    """`_pair` for all new pixels."""
    pixels = weight.shape[1]
    scale, begin, last = np.float32(length / pixels), np.float32(start), np.float32(length - 1)
    first, step = (np.float32(pixels - 1), -_1) if flip else (_0, _1)
    mirror = np.float32(2 * (size - 1))
    for i in range(pixels):
        centre = scale * (first + step * np.float32(i) + _HALF)
        old[0, i], old[1, i], second = _pair(centre, begin, last, mirror)
        weight[0, i], weight[1, i] = _1 - second, second


@_fast
def _axis(start: int, length: int, flip: bool, size: int, old: Array, weight: Array) -> None:
    """The pixels and weights for each new pixel of an axis, in reverse order if `flip`."""
    taps, pixels = weight.shape
    if taps == 2:
        _pairs(start, length, flip, size, old, weight)
    else:
        scale = np.float32(length / pixels)
        for i in range(pixels):
            centre = float(np.float32(scale * (i + 0.5)))  # rounded, as by torchvision and `torch_backend`
            _average(start, length, size, centre, old, weight, pixels - 1 - i if flip else i)


@_fast
def _transpose(old: Array, h: int, first: int, last: int, new: Array) -> None:
    """new[j, i] = old[i, j] for i < h and first <= j < last."""
    n, m = old.shape[1], new.shape[1]
    if h < 8 or last - first < 8:
        for i in range(h):
            for j in range(first, last):
                new[j, i] = old[i, j]
        return
    for i in range(0, h, 8):
        for j in range(first, last, 8):
            y, x = min(i, h - 8), min(j, last - 8)  # the last block overlaps the one before
            _transpose8(old, y * n + x, n, new, x * m + y, m)


@_fast
def _weigh(old: Array, at: Array, weight: Array, i: int, first: int, last: int, new: Array) -> None:
    """new[i, j] = min(Σₖ weight[k, i] · old[at[k, i], j], 1) for at least 8 values of j, first <= j < last."""
    n, m = old.shape[1], new.shape[1]
    a, b, wa, wb = at[0, i] * n, at[1, i] * n, weight[0, i], weight[1, i]
    for start in range(first, last, 8):
        j = min(start, last - 8)
        _weigh8(new, i * m + j, old, a + j, b + j, wa, wb)
        for k in range(2, len(at)):  # if crops can shrink
            _add8(new, i * m + j, old, at[k, i] * n + j, weight[k, i])


@_fast
def _resample(
    columns: Array, view: Array, first: int, last: int, across: Array, rows: Array,
    oldy: Array, wy: Array, oldx: Array, wx: Array,
) -> None:  # fmt: skip
    """One channel, (W, H) -> (h, w): first along the rows `first` to `last` - 1, then across them.

    In both steps neighbours in memory have the same weight. `across` is (w, H) and `rows` (H, w), at least 8 x 8.
    """
    h, w = view.shape
    last = max(last, 8)
    first = min(first, last - 8)
    for i in range(w):
        _weigh(columns, oldx, wx, i, first, last, across)
    _transpose(across, len(across), first, last, rows)
    for i in range(h):
        if w >= 8:
            _weigh(rows, oldy, wy, i, 0, w, view)
        else:
            for j in range(w):
                total = _0
                for k in range(len(oldy)):
                    total += wy[k, i] * rows[oldy[k, i], j]
                view[i, j] = min(total, _1)


@_fast
def _rotate(image: Array, view: Array, p: Any, edge: bool, oldy: Array, wy: Array, oldx: Array, wx: Array) -> None:
    """All channels, (C, H, W) -> (C, h, w). Each new pixel has its own place in the box."""
    (C, H, W), (_, h, w) = image.shape, view.shape
    sin, cos = math.sin(math.radians(p.angle)), math.cos(math.radians(p.angle))
    scaley, scalex = p.height / h, p.width / w
    top, left, below, right = np.float32(p.top), np.float32(p.left), np.float32(p.height - 1), np.float32(p.width - 1)
    mirrory, mirrorx = np.float32(2 * (H - 1)), np.float32(2 * (W - 1))
    for i in range(h):
        for j in range(w):
            y, x = i - (h - 1) / 2, j - (w - 1) / 2
            y, x = sin * x + cos * y + (h - 1) / 2, cos * x - sin * y + (w - 1) / 2
            cover = 1.0 if edge else min(max(min(y + 1, h - y), 0.0), 1.0) * min(max(min(x + 1, w - x), 0.0), 1.0)
            y, x = h - 1 - y if p.vflip else y, w - 1 - x if p.hflip else x
            y, x = min(max(scaley * (y + 0.5), 0.0), p.height), min(max(scalex * (x + 0.5), 0.0), p.width)
            if len(wy) == len(wx) == 2:
                y0, y1, v = _pair(np.float32(y), top, below, mirrory)
                x0, x1, u = _pair(np.float32(x), left, right, mirrorx)
                for c in range(C):
                    upper = (_1 - u) * image[c, y0, x0] + u * image[c, y0, x1]
                    lower = (_1 - u) * image[c, y1, x0] + u * image[c, y1, x1]
                    view[c, i, j] = min(cover * ((_1 - v) * upper + v * lower), 1.0)
            else:
                _average(p.top, p.height, H, y, oldy, wy, i)
                _average(p.left, p.width, W, x, oldx, wx, j)
                for c in range(C):
                    total = 0.0
                    for k in range(len(wy)):
                        for m in range(len(wx)):
                            total += wy[k, i] * wx[m, j] * image[c, oldy[k, i], oldx[m, j]]
                    view[c, i, j] = min(cover * total, 1.0)


# --- colour, on (C, pixels) -------------------------------------------------------------------------------------------


@_fast
def _blend(x: Array, factor: float, other: float) -> None:
    for i in range(len(x)):
        x[i] = min(max(factor * x[i] + other, _0), _1)


@_fast
def _mean_luminance(x: Array) -> Any:
    total = _0
    if len(x) == 1:
        for value in x[0]:
            total += value
    else:
        red, green, blue = x[0], x[1], x[2]
        for i in range(len(red)):
            total += _RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]
    return total / np.float32(x.shape[1])


@_fast
def _saturate(x: Array, factor: float) -> None:
    """Blend with the grey version. A factor of 0 removes all colour."""
    red, green, blue = x[0], x[1], x[2]
    for i in range(len(red)):
        grey = (_1 - factor) * (_RED * red[i] + _GREEN * green[i] + _BLUE * blue[i])
        red[i] = min(max(factor * red[i] + grey, _0), _1)
        green[i] = min(max(factor * green[i] + grey, _0), _1)
        blue[i] = min(max(factor * blue[i] + grey, _0), _1)


@_fast
def _within(x: Any) -> Any:
    return min(max(x, _0), _1)


@_fast
def _turn(x: Array, hue: float) -> None:
    """Shift the hue by a fraction of a turn, equal to a conversion to HSV and back."""
    red, green, blue = x[0], x[1], x[2]
    shift = _6 * hue if hue >= _0 else _6 * hue + _6
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        value = max(max(r, g), b)
        chroma = value - min(min(r, g), b)
        sixth = _1 / max(chroma, np.float32(1e-30))  # the hue of grey does not matter
        h = (r - g) * sixth + _4
        h = (b - r) * sixth + _2 if value == g else h
        h = (g - b) * sixth if value == r else h
        h = h + shift
        h = h - _6 if h >= _5 else h  # within [-1, 5], in sixths of a turn from red
        red[i] = value - chroma * _within(_2 - abs(h - _3))
        green[i] = value - chroma * _within(abs(h - _2) - _1)
        blue[i] = value - chroma * _within(_2 - abs(h - _1))


@_fast
def _jitter(x: Array, factors: Array, order: Array) -> None:
    """Brightness, contrast, saturation and hue, in the given order."""
    for which in order:
        factor = factors[which]
        if which == 0 and factor != _1:
            _blend(x.reshape(-1), factor, _0)
        elif which == 1 and factor != _1:
            _blend(x.reshape(-1), factor, (_1 - factor) * _mean_luminance(x))
        elif which == 2 and factor != _1 and len(x) == 3:
            _saturate(x, factor)
        elif which == 3 and factor != _0 and len(x) == 3:
            _turn(x, factor)


# --- filters ----------------------------------------------------------------------------------------------------------


@_fast
def _ring(x: Array, y: Array, n: int, stride: int, at: int, before: int, after: int, a: float, b: float) -> None:
    """y[at + i] = a · x[at + i] + b · (x[before + i] + x[after + i]) for i = 0, stride, ..., (n - 1) · stride."""
    here, left, right = np.uint64(at), np.uint64(before), np.uint64(after)
    for j in range(np.uint64(n)):
        i = np.uint64(stride) * j
        y[here + i] = a * x[here + i] + b * (x[left + i] + x[right + i])


@_fast
def _add_ring(x: Array, y: Array, n: int, stride: int, at: int, before: int, after: int, b: float) -> None:
    """y[at + i] += b · (x[before + i] + x[after + i]) for the same i."""
    here, left, right = np.uint64(at), np.uint64(before), np.uint64(after)
    for j in range(np.uint64(n)):
        i = np.uint64(stride) * j
        y[here + i] += b * (x[left + i] + x[right + i])


@_fast
def _rings(x: Array, y: Array, start: int, end: int, step: int, weight: Array) -> None:
    """y[i] = Σ weight[|k|] · x[i + step·k] for start <= i < end, a block at a time."""
    for at in range(start, end, 64 * _BLOCK):
        n = min(64 * _BLOCK, end - at)
        _ring(x, y, n, 1, at, at - step, at + step, weight[0], weight[1])
        for k in range(2, len(weight)):
            _add_ring(x, y, n, 1, at, at - k * step, at + k * step, weight[k])


@_fast
def _ends(x: Array, y: Array, size: int, step: int, n: int, stride: int, weight: Array) -> None:
    """The same near both ends of n lines of `size`, which are reflected. The lines begin `stride` pixels apart."""
    r = len(weight) - 1
    for i in range(size):
        if i < r or i >= size - r:
            before, after = _reflect(i - 1, size), _reflect(i + 1, size)
            _ring(x, y, n, stride, i * step, before * step, after * step, weight[0], weight[1])
            for k in range(2, r + 1):
                before, after = _reflect(i - k, size), _reflect(i + k, size)
                _add_ring(x, y, n, stride, i * step, before * step, after * step, weight[k])


@_fast
def _blur(x: Array, y: Array, h: int, w: int, weight: Array) -> None:
    """Blur one channel, (h·w,), with the weights of the pixels at distance 0, 1, 2, ...; `y` is scratch memory.

    Each direction is blurred as if the channel had no ends, and then again near its ends.
    """
    r = len(weight) - 1
    _rings(x, y, r, h * w - r, 1, weight)
    _ends(x, y, w, 1, h, w, weight)
    _rings(y, x, r * w, (h - r) * w, w, weight)
    _ends(y, x, h, w, w, 1, weight)
    _blend(x, _1, _0)  # clamps


@njit
def _gaussian(sigma: float, radius: int) -> Array:
    weight = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weight /= 2 * weight.sum() - weight[0]
    return weight[: max(2, min(radius, int(6 * sigma) + 1) + 1)].astype(np.float32)  # the other weights are below 2e-8


@_fast
def _solarise(x: Array) -> None:
    for i in range(len(x)):
        x[i] = _1 - x[i] if x[i] >= _HALF else x[i]


# --- the whole view ---------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=True)
def render(images: Array, table: Array, edge: bool, radius: int, x: Array) -> None:
    """Make all views of some samples, without their noise.

    Args:
        images: (N, C, H, W) float32 in [0, 1].
        table: what is done to each view, (N, J) of `draws.PARAMETERS`.
        edge: whether a rotation repeats the edge of the box around it; otherwise the surroundings are black.
        radius: how many pixels away the blur reaches.
        x: (N, J, C, h, w) float32, overwritten.
    """
    (N, J, C, h, w), (H, W) = x.shape, images.shape[2:]
    ny, nx = max(2, math.ceil(2 * H / h)), max(2, math.ceil(2 * W / w))  # maximum number of pixels in an average
    oldy, wy = np.empty((ny, h), np.uint32), np.empty((ny, h), np.float32)
    oldx, wx = np.empty((nx, w), np.uint32), np.empty((nx, w), np.float32)
    columns = np.empty((C, W, H), np.float32)
    across, rows = np.empty((max(w, 8), max(H, 8)), np.float32), np.empty((max(H, h, 8), max(w, 8)), np.float32)
    for n in range(N):
        image = images[n]
        for c in range(C):
            _transpose(image[c], H, 0, W, columns[c])
        for j in range(J):
            p, view = table[n, j], x[n, j]
            if p.angle != 0:
                _rotate(image, view, p, edge, oldy, wy, oldx, wx)
            else:
                _axis(p.top, p.height, p.vflip, H, oldy, wy)
                _axis(p.left, p.width, p.hflip, W, oldx, wx)
                inside = p.top >= 0 and p.top + p.height <= H  # a box that is reflected needs all rows
                first, last = (p.top, p.top + p.height) if inside else (0, H)
                for c in range(C):
                    _resample(columns[c], view[c], first, last, across, rows, oldy, wy, oldx, wx)
            planes = view.reshape(C, -1)
            _jitter(planes, p.factors, p.order)
            if p.grey and C == 3:
                _saturate(planes, _0)
            if p.sigma > 0:
                weight = _gaussian(p.sigma, radius)
                for c in range(C):
                    _blur(planes[c], rows.reshape(-1), h, w, weight)
            if p.solarise:
                _solarise(view.reshape(-1))
