"""Loops for what stands between convolutions: scalings, sums, and depthwise convolutions of images.

An item is one channel of one image (of a norm: some pixels of one row). Columns of images are adjacent; strides are in
bytes, but those of taps in floats.
"""

from enum import IntEnum, auto
from typing import Any

import numpy as np
from numba import njit
from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.functions import activate_row
from gossamer.kernels.memory import float32_at, floats, integers, peek, peek_float

ADD, SUBTRACT, MULTIPLY, DIVIDE = range(4)
F = np.float32
FAST = {"contract", "nsz", "arcp", "afn"}
"""What the loops may do to floats; sums stay in order, so that results are the same for every number of threads."""

fast: Any = njit(error_model="numpy", fastmath=FAST)
summing: Any = njit(error_model="numpy", fastmath=FAST | {"reassoc"})


class Image(IntEnum):
    """The columns of every table here; what an operation needs beside them follows from `END` on."""

    X = 0
    X_IMAGE = auto()
    X_CHANNEL = auto()
    X_ROW = auto()
    OTHER = auto()  # what is added or combined, 0 if there is none
    OTHER_IMAGE = auto()
    OTHER_CHANNEL = auto()
    OTHER_ROW = auto()
    OUT = auto()
    OUT_IMAGE = auto()
    OUT_CHANNEL = auto()
    OUT_ROW = auto()
    CHANNELS = auto()
    HEIGHT = auto()  # of the output
    WIDTH = auto()
    LOW = auto()  # float32
    HIGH = auto()  # float32
    ACTIVATION = auto()  # as `activate_row` has it
    END = auto()


class Scale(IntEnum):
    """The further columns of a scaling."""

    SCALE = Image.END  # float32
    SCALE_IMAGE = auto()  # 0 where all images share them
    SHIFT = auto()  # float32 (channels,)
    SIZE = auto()


class Combine(IntEnum):
    """The further columns of a sum, difference, product or quotient."""

    FUNCTION = Image.END
    SIZE = auto()


class Taps(IntEnum):
    """The further columns of a depthwise convolution."""

    STARTS = Image.END  # int64 (channels + 1,), into the taps, which come in whole threes
    OFFSETS = auto()  # int64, in floats from the output pixel's place in the input
    VALUES = auto()  # float32
    BIAS = auto()  # float32 (channels,)
    STRIDE_ROWS = auto()
    STRIDE_COLUMNS = auto()
    SIZE = auto()


class Norm(IntEnum):
    """The further columns of a layer norm over the channels of each pixel."""

    WEIGHT = Image.END  # float32 (channels,)
    BIAS = auto()
    EPSILON = auto()  # float32
    CENTRED = auto()  # float32, 1 where the mean is taken off, else 0
    SIZE = auto()


@njit
def place(table: int, array: int, image: int, channel: int, row: int) -> int:
    """The address of a row; `array` is X, OTHER or OUT."""
    start = peek(table, array) + image * peek(table, array + 1)
    return start + channel * peek(table, array + 2) + row * peek(table, array + 3)


@njit
def finish(table: int, address: int) -> None:
    """Activate a row of the output."""
    low, high = peek_float(table, Image.LOW), peek_float(table, Image.HIGH)
    activate_row(peek(table, Image.ACTIVATION), low, high, address, peek(table, Image.WIDTH))


@fast
def scale_row(a: np.ndarray, b: np.ndarray, y: np.ndarray, s: float, t: float, residual: bool) -> None:
    """y = s · a + t (+ b)."""
    if residual:
        for w in range(y.size):
            y[w] = s * a[w] + t + b[w]
    else:
        for w in range(y.size):
            y[w] = s * a[w] + t


@c_function(void(int64, int64, int64, int64))
def scale_images(table: int, worker: int, first: int, end: int) -> None:
    """out = activation(scale · x + shift + other)."""
    channels, width = peek(table, Image.CHANNELS), peek(table, Image.WIDTH)
    for item in range(first, end):
        n, c = item // channels, item % channels
        s = float32_at(peek(table, Scale.SCALE) + n * peek(table, Scale.SCALE_IMAGE), c)
        t = float32_at(peek(table, Scale.SHIFT), c)
        for h in range(peek(table, Image.HEIGHT)):
            a = floats(place(table, Image.X, n, c, h))[:width]
            b = floats(place(table, Image.OTHER, n, c, h))[:width]
            address = place(table, Image.OUT, n, c, h)
            y = floats(address)[:width]
            scale_row(a, b, y, s, t, peek(table, Image.OTHER) != 0)
            finish(table, address)


@fast
def combine_row(a: np.ndarray, b: np.ndarray, y: np.ndarray, function: int) -> None:
    """y = a add, subtract, multiply or divide b."""
    if function == ADD:
        for w in range(y.size):
            y[w] = a[w] + b[w]
    elif function == SUBTRACT:
        for w in range(y.size):
            y[w] = a[w] - b[w]
    elif function == MULTIPLY:
        for w in range(y.size):
            y[w] = a[w] * b[w]
    else:
        for w in range(y.size):
            y[w] = a[w] / b[w]


@c_function(void(int64, int64, int64, int64))
def combine_images(table: int, worker: int, first: int, end: int) -> None:
    """out = activation(x add, subtract, multiply or divide other)."""
    channels, width = peek(table, Image.CHANNELS), peek(table, Image.WIDTH)
    for item in range(first, end):
        n, c = item // channels, item % channels
        for h in range(peek(table, Image.HEIGHT)):
            a = floats(place(table, Image.X, n, c, h))[:width]
            b = floats(place(table, Image.OTHER, n, c, h))[:width]
            address = place(table, Image.OUT, n, c, h)
            y = floats(address)[:width]
            combine_row(a, b, y, peek(table, Combine.FUNCTION))
            finish(table, address)


@fast
def add_taps(
    y: np.ndarray, p: np.ndarray, q: np.ndarray, r: np.ndarray, u: float, v: float, s: float, step: int
) -> None:
    """y += u · p + v · q + s · r, whose columns lie `step` apart."""
    if step == 1:
        for w in range(y.size):
            y[w] += u * p[w] + v * q[w] + s * r[w]
    elif step == 2:
        for w in range(y.size):
            y[w] += u * p[2 * w] + v * q[2 * w] + s * r[2 * w]
    else:
        for w in range(y.size):
            y[w] += u * p[w * step] + v * q[w * step] + s * r[w * step]


@c_function(void(int64, int64, int64, int64))
def convolve_channels(table: int, worker: int, first: int, end: int) -> None:
    """out = activation(sum of values[k] · x shifted by offsets[k] + bias + other), k from starts[c] to the next.

    x has a halo for every offset.
    """
    channels, width = peek(table, Image.CHANNELS), peek(table, Image.WIDTH)
    starts, offsets = integers(peek(table, Taps.STARTS)), integers(peek(table, Taps.OFFSETS))
    values = floats(peek(table, Taps.VALUES))
    for item in range(first, end):
        n, c = item // channels, item % channels
        bias = float32_at(peek(table, Taps.BIAS), c)
        for h in range(peek(table, Image.HEIGHT)):
            address = place(table, Image.OUT, n, c, h)
            y = floats(address)[:width]
            if peek(table, Image.OTHER):
                b = floats(place(table, Image.OTHER, n, c, h))[:width]
                scale_row(b, b, y, F(1.0), bias, False)
            else:
                y[:] = bias
            x = place(table, Image.X, n, c, h * peek(table, Taps.STRIDE_ROWS))
            for t in range(starts[c], starts[c + 1], 3):
                p, q, r = floats(x + 4 * offsets[t]), floats(x + 4 * offsets[t + 1]), floats(x + 4 * offsets[t + 2])
                add_taps(y, p, q, r, values[t], values[t + 1], values[t + 2], peek(table, Taps.STRIDE_COLUMNS))
            finish(table, address)
