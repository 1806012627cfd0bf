"""The kernels of `triton_backend`, which Triton compiles for the device at their first use.

A program makes a block of pixels of one view. What a view asks for is the same for all of its pixels, so a program only
computes what its view needs. Arguments in capitals are constants of a compiled kernel.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, no-any-return"
# ruff: noqa: SIM102  (Triton does not stop at the first operand of `and`)

import triton
import triton.language as tl

from sslx.data_loaders.views.draws import PARAMETERS


def _at(name: str, size: int = 1) -> tl.constexpr:
    """Position of a parameter in the row of a view, in numbers of so many bytes."""
    assert PARAMETERS.fields is not None
    return tl.constexpr(PARAMETERS.fields[name][1] // size)


# A row of `draws.PARAMETERS`, which is read as int64, as float32 and as bytes.
_LONGS, _FLOATS, _ROW = (tl.constexpr(PARAMETERS.itemsize // size) for size in (8, 4, 1))
_TOP, _LEFT, _HEIGHT, _WIDTH, _NOISE = (_at(name, 8) for name in ("top", "left", "height", "width", "noise"))
_HFLIP, _VFLIP, _ORDER, _GREY, _SOLARISE = (_at(name) for name in ("hflip", "vflip", "order", "grey", "solarise"))
_FACTORS = _at("factors", 4)


# --- geometry ---------------------------------------------------------------------------------------------------------


@triton.jit
def _reflect(i, size):
    i = tl.abs(i)
    return tl.where(i < size, i, 2 * (size - 1) - i)


@triton.jit
def _centre(place, length, flip, out):
    """Where new pixels are in a box of the old axis, and half the width of their triangle, as in `resample`."""
    scale = tl.div_rn(length.to(tl.float32), length.to(tl.float32) * 0 + out)
    place = tl.where(flip, out - 1 - place, place)
    centre = tl.minimum(tl.maximum(scale * (place + 0.5), 0.0), length.to(tl.float32))
    return centre, tl.maximum(scale, 1.0)


@triton.jit
def _weight(each, centre, support, length):
    """Weight of the old pixel `each`, counted from the start of the box, before weights are made to add up to 1."""
    weight = tl.maximum(1 - tl.abs(each + 0.5 - centre) / support, 0.0)
    return tl.where(each < length, weight, 0.0)


@triton.jit
def _total(first, centre, support, length, taps):
    total = tl.zeros_like(centre)
    for k in range(taps):
        total += _weight(first + k, centre, support, length)
    return total


@triton.jit
def _placed(
    images, longs, bytes, extra, v, i, shape, CHANNELS: tl.constexpr, EDGE: tl.constexpr, ROTATES: tl.constexpr
):
    """Pixels i of the view v: up to three channels, cropped, flipped and rotated.

    Args:
        images: where the first channel of its image begins.
        shape: size of the image (H, W) and of the view (h, w).
    """
    H, W, h, w = shape
    top, left = tl.load(longs + v * _LONGS + _TOP).to(tl.int32), tl.load(longs + v * _LONGS + _LEFT).to(tl.int32)
    height = tl.load(longs + v * _LONGS + _HEIGHT).to(tl.int32)
    width = tl.load(longs + v * _LONGS + _WIDTH).to(tl.int32)
    hflip, vflip = tl.load(bytes + v * _ROW + _HFLIP) != 0, tl.load(bytes + v * _ROW + _VFLIP) != 0
    y, x = (i // w).to(tl.float32), (i % w).to(tl.float32)
    cover = tl.full(i.shape, 1.0, tl.float32)  # the share of a pixel that is within the view before it is turned
    if ROTATES:
        sin, cos = tl.load(extra + v * 2), tl.load(extra + v * 2 + 1)
        middle, centre = (h - 1) / 2, (w - 1) / 2
        dy, dx = y - middle, x - centre
        y, x = sin * dx + cos * dy + middle, cos * dx - sin * dy + centre
        if not EDGE:
            cover = tl.clamp(tl.minimum(y + 1, h - y), 0.0, 1.0) * tl.clamp(tl.minimum(x + 1, w - x), 0.0, 1.0)
    cy, sy = _centre(y, height, vflip, h)
    cx, sx = _centre(x, width, hflip, w)
    fy, fx = tl.maximum(tl.floor(cy - sy + 0.5), 0.0), tl.maximum(tl.floor(cx - sx + 0.5), 0.0)
    ny, nx = tl.ceil(2 * sy).to(tl.int32), tl.ceil(2 * sx).to(tl.int32)
    ty, tx = _total(fy, cy, sy, height, ny), _total(fx, cx, sx, width, nx)
    a, b, c = tl.zeros_like(y), tl.zeros_like(y), tl.zeros_like(y)
    for k in range(ny):
        row = fy + k
        wy = _weight(row, cy, sy, height) / ty
        old_y = _reflect(top + tl.minimum(row, height - 1.0).to(tl.int32), H)
        for m in range(nx):
            column = fx + m
            weight = wy * (_weight(column, cx, sx, width) / tx)
            at = old_y * W + _reflect(left + tl.minimum(column, width - 1.0).to(tl.int32), W)
            a += weight * (tl.load(images + at).to(tl.float32) / 255)
            if CHANNELS == 3:
                b += weight * (tl.load(images + H * W + at).to(tl.float32) / 255)
                c += weight * (tl.load(images + 2 * H * W + at).to(tl.float32) / 255)
    return tl.clamp(a * cover, 0.0, 1.0), tl.clamp(b * cover, 0.0, 1.0), tl.clamp(c * cover, 0.0, 1.0)


# --- colour -----------------------------------------------------------------------------------------------------------


@triton.jit
def _luminance(a, b, c, CHANNELS: tl.constexpr):
    if CHANNELS == 3:
        return 0.2989 * a + 0.587 * b + 0.114 * c
    else:
        return a


@triton.jit
def _lacking(start, sixths):
    lacks = start + sixths
    lacks = lacks - 6 * tl.floor(lacks / 6)
    return tl.clamp(tl.minimum(lacks, 4 - lacks), 0.0, 1.0)


@triton.jit
def _turned(a, b, c, hue):
    """Shift the hue by a fraction of a turn, as `colour.turn` does."""
    value = tl.maximum(tl.maximum(a, b), c)
    chroma = value - tl.minimum(tl.minimum(a, b), c)
    unit = tl.where(chroma > 0, chroma, 1.0)
    sixths = tl.where(value == b, (c - a) / unit + 2, (a - b) / unit + 4)
    sixths = tl.where(value == a, (b - c) / unit, sixths) + 6 * hue
    a, b, c = _lacking(5, sixths), _lacking(3, sixths), _lacking(1, sixths)
    return value - chroma * a, value - chroma * b, value - chroma * c


@triton.jit
def _jittered(a, b, c, floats, bytes, v, mean, begin, end, CHANNELS: tl.constexpr):
    """The adjustments number `begin` to `end` - 1 of the view v, in its own order.

    Args:
        mean: the mean luminance of the view before its contrast is adjusted.
    """
    for k in range(begin, end):
        which = tl.load(bytes + v * _ROW + _ORDER + k).to(tl.int32)
        factor = tl.load(floats + v * _FLOATS + _FACTORS + which)
        if which == 3:
            if CHANNELS == 3:
                if factor != 0:
                    a, b, c = _turned(a, b, c, factor)
        elif which < 2 or CHANNELS == 3:
            other = tl.zeros_like(a)
            if which == 1:
                other += mean
            elif which == 2:
                other = _luminance(a, b, c, CHANNELS)
            other = (1 - factor) * other
            a = tl.clamp(factor * a + other, 0.0, 1.0)
            if CHANNELS == 3:
                b, c = tl.clamp(factor * b + other, 0.0, 1.0), tl.clamp(factor * c + other, 0.0, 1.0)
    return a, b, c


@triton.jit
def _contrast_round(bytes, v):
    """Which of the four adjustments of the view v is that of contrast."""
    at = 0
    for k in range(4):
        if tl.load(bytes + v * _ROW + _ORDER + k) == 1:
            at = k
    return at


# --- noise and the end of a view --------------------------------------------------------------------------------------


@triton.jit
def _mixed(x):
    """SplitMix64's finalizer, as in `draws`."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit
def _finished(x, number, longs, bytes, table, v, scale, NOISE: tl.constexpr):
    """Solarize numbers of a view and add noise, which depends on their position in the view, `number`."""
    solarise = tl.load(bytes + v * _ROW + _SOLARISE) != 0
    x = tl.where(solarise & (x >= 0.5), 1 - x, x)
    if NOISE:
        key = tl.load(longs + v * _LONGS + _NOISE).to(tl.uint64, bitcast=True)
        word = (number // 4 + 1).to(tl.uint64) * 0x9E3779B97F4A7C15 + key
        level = (_mixed(word) >> (16 * (number % 4)).to(tl.uint64)) & 0xFFFF
        x += scale * tl.load(table + level.to(tl.int32))
    return x


@triton.jit
def _stored(out, v, channel, i, x, mask, strides):
    """Write pixels i of a channel of the view v to their place in any memory format and type."""
    view, step, pixel = strides
    place = out + v.to(tl.int64) * view + channel * step + i * pixel
    tl.store(place, x.to(out.dtype.element_ty), mask=mask)


# --- passes -----------------------------------------------------------------------------------------------------------


@triton.jit
def sum_luminance(
    images, longs, floats, bytes, extra, sums, J, C, shape, parts,
    CHANNELS: tl.constexpr, EDGE: tl.constexpr, ROTATES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The sum of the luminance that each part of a view has before its contrast is adjusted, (V, parts)."""
    v, part = tl.program_id(0), tl.program_id(1)
    H, W, h, w = shape
    if tl.load(floats + v * _FLOATS + _FACTORS + 1) != 1:
        i = part * BLOCK + tl.arange(0, BLOCK)
        image = images + (v // J).to(tl.int64) * C * H * W
        mask, i = i < h * w, tl.minimum(i, h * w - 1)
        a, b, c = _placed(image, longs, bytes, extra, v, i, shape, CHANNELS, EDGE, ROTATES)
        a, b, c = _jittered(a, b, c, floats, bytes, v, 0.0, 0, _contrast_round(bytes, v), CHANNELS)
        tl.store(sums + v * parts + part, tl.sum(tl.where(mask, _luminance(a, b, c, CHANNELS), 0.0)))


@triton.jit
def make(
    images, longs, floats, bytes, extra, sums, slots, scratch, table, out, J, C, shape, parts, strides, scale,
    CHANNELS: tl.constexpr, EDGE: tl.constexpr, ROTATES: tl.constexpr, JITTERS: tl.constexpr, NOISE: tl.constexpr,
    BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Make a part of a view, whole to `out`, or to `scratch` if it is blurred afterwards."""
    v, part, channel = tl.program_id(0), tl.program_id(1), tl.program_id(2) * CHANNELS
    H, W, h, w = shape
    i = part * BLOCK + tl.arange(0, BLOCK)
    mask, i = i < h * w, tl.minimum(i, h * w - 1)
    image = images + ((v // J).to(tl.int64) * C + channel) * H * W
    a, b, c = _placed(image, longs, bytes, extra, v, i, shape, CHANNELS, EDGE, ROTATES)
    if JITTERS:
        each = tl.arange(0, PARTS)
        mean = 0.0
        if tl.load(floats + v * _FLOATS + _FACTORS + 1) != 1:
            mean = tl.sum(tl.load(sums + v * parts + each, mask=each < parts, other=0.0)) / (h * w)
        a, b, c = _jittered(a, b, c, floats, bytes, v, mean, 0, 4, CHANNELS)
    if CHANNELS == 3:
        if tl.load(bytes + v * _ROW + _GREY) != 0:
            a = _luminance(a, b, c, CHANNELS)
            b, c = a, a
    slot = tl.load(slots + v)
    for k in tl.static_range(CHANNELS):
        x = a if k == 0 else (b if k == 1 else c)
        if slot >= 0:
            place = (slot.to(tl.int64) * C + channel + k) * h * w
            tl.store(scratch + place + i, x, mask=mask)
        else:
            x = _finished(x, (channel + k) * h * w + i, longs, bytes, table, v, scale, NOISE)
            _stored(out, v, channel + k, i, x, mask, strides)


@triton.jit
def blur_rows(old, new, weights, shape, C, RADIUS: tl.constexpr, BLOCK: tl.constexpr):
    """Blur along the rows of each channel of the blurred views."""
    slot, part, channel = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    _, _, h, w = shape
    i = part * BLOCK + tl.arange(0, BLOCK)
    mask, plane = i < h * w, (slot.to(tl.int64) * C + channel) * h * w
    row, column = i // w, i % w
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(2 * RADIUS + 1):
        at = row * w + _reflect(column + k - RADIUS, w)
        total += tl.load(old + plane + at, mask=mask, other=0.0) * tl.load(weights + slot * (2 * RADIUS + 1) + k)
    tl.store(new + plane + i, total, mask=mask)


@triton.jit
def blur_columns(
    old, weights, longs, bytes, numbers, table, out, shape, strides, C, scale,
    RADIUS: tl.constexpr, NOISE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Blur along the columns, and finish the view."""
    slot, part, channel = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    _, _, h, w = shape
    i = part * BLOCK + tl.arange(0, BLOCK)
    mask, plane = i < h * w, (slot.to(tl.int64) * C + channel) * h * w
    row, column = i // w, i % w
    total = tl.zeros((BLOCK,), tl.float32)
    for k in range(2 * RADIUS + 1):
        at = _reflect(row + k - RADIUS, h) * w + column
        total += tl.load(old + plane + at, mask=mask, other=0.0) * tl.load(weights + slot * (2 * RADIUS + 1) + k)
    v = tl.load(numbers + slot)
    x = _finished(tl.clamp(total, 0.0, 1.0), channel * h * w + i, longs, bytes, table, v, scale, NOISE)
    _stored(out, v, channel, i, x, mask, strides)
