"""Batch norm in training: a band of channels at a time, which stays in the second-level cache from pass to pass.

What follows a norm goes along: a residual that is added, a ReLU, and after it max pooling of two by two pixels.
"""

import functools
import math
from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

import numpy as np
from numba import njit
from numba.core.types import int64, void

from gossamer.kernels.compiled import CFunction, c_function
from gossamer.kernels.image_loops import F, fast, summing
from gossamer.kernels.layout import Floats, aligned
from gossamer.kernels.memory import float32_at, floats, peek, peek_float
from gossamer.kernels.pooled_loops import pool, pool_gradient, pool_products
from gossamer.kernels.simd import BYTES, LANES
from gossamer.kernels.tasks import Program, Task

BAND = 1 << 16  # pixels of all images that an item holds, if a channel has fewer


class NormTable(IntEnum):
    """The columns of a batch norm's table: first the addresses of arrays, those of images and float32 (channels,)."""

    X = 0
    OUT = auto()  # what comes out, or the gradient to x
    WEIGHT = auto()
    BIAS = auto()
    MEAN = auto()
    VARIANCE = auto()  # biased
    RESIDUAL = auto()  # what is added, or its gradient; 0 if there is none
    RUNNING_MEAN = auto()  # going forward
    RUNNING_VARIANCE = auto()  # unbiased
    GRADIENT = auto()  # going back, to what came out
    RESULT = auto()  # what came out, where there is a residual
    TO_WEIGHT = auto()  # the gradients
    TO_BIAS = auto()
    IMAGES = auto()
    CHANNELS = auto()
    PIXELS = auto()  # of a channel, contiguous
    BAND = auto()  # channels of an item
    WIDTH = auto()  # pixels of a row, where images are pooled; else 0
    SUMS = auto()  # room for sums, two vectors a worker
    RELU = auto()  # 1 where what is negative becomes 0
    EPSILON = auto()  # float32
    MOMENTUM = auto()  # float32, the share of these images in what runs on
    SIZE = auto()


@summing
def _moments(x: np.ndarray, near: float) -> Any:
    """Σ (x - near) and Σ (x - near)²."""
    total = square = F(0.0)
    for k in range(x.size):
        total += x[k] - near
        square += (x[k] - near) * (x[k] - near)
    return total, square


@summing
def _products(g: np.ndarray, x: np.ndarray, mean: float, a: float, b: float) -> Any:
    """Σ g and Σ g · (x - mean), both over x · a + b > 0."""
    total = product = F(0.0)
    for k in range(x.size):
        one = g[k] if x[k] * a + b > F(0.0) else F(0.0)
        total += one
        product += one * (x[k] - mean)
    return total, product


@summing
def _passed(g: np.ndarray, y: np.ndarray, out: np.ndarray, x: np.ndarray, mean: float) -> Any:
    """out = g where y > 0, else 0; and Σ out and Σ out · (x - mean)."""
    total = product = F(0.0)
    for k in range(x.size):
        one = g[k] if y[k] > F(0.0) else F(0.0)
        out[k] = one
        total += one
        product += one * (x[k] - mean)
    return total, product


@fast
def _affine(x: np.ndarray, out: np.ndarray, a: float, b: float, low: float) -> None:
    for k in range(x.size):
        y = x[k] * a + b
        out[k] = low if y < low else y


@fast
def _affine_sum(x: np.ndarray, other: np.ndarray, out: np.ndarray, a: float, b: float, low: float) -> None:
    for k in range(x.size):
        y = x[k] * a + b + other[k]
        out[k] = low if y < low else y


@fast
def _combined(
    g: np.ndarray, x: np.ndarray, out: np.ndarray, a: float, b: float, by_g: float, by_x: float, shift: float
) -> None:
    """out = g · by_g + x · by_x + shift, with g only where x · a + b > 0."""
    for k in range(x.size):
        one = g[k] if x[k] * a + b > F(0.0) else F(0.0)
        out[k] = one * by_g + x[k] * by_x + shift


@njit
def _address(table: int, array: int, image: int, channel: int, pixels: int) -> int:
    """Where a channel of an image of so many pixels begins; `array` is a column that holds an address of images."""
    return peek(table, array) + 4 * (image * peek(table, NormTable.CHANNELS) + channel) * pixels


@njit
def _at(table: int, array: int, image: int, channel: int) -> np.ndarray:
    """The pixels of a channel of an image."""
    pixels = peek(table, NormTable.PIXELS)
    return floats(_address(table, array, image, channel, pixels))[:pixels]


@njit
def _windows(table: int) -> Any:
    """Of images that are pooled: pixels of a row, rows and columns of windows; a last odd row or column is in none."""
    width = peek(table, NormTable.WIDTH)
    return width, peek(table, NormTable.PIXELS) // width // 2, width // 2


@njit
def _pool(table: int, n: int, c: int, a: float, b: float) -> None:
    """OUT of a channel that is pooled."""
    width, rows, columns = _windows(table)
    x = _address(table, NormTable.X, n, c, peek(table, NormTable.PIXELS))
    out = _address(table, NormTable.OUT, n, c, rows * columns)
    for row in range(rows):
        upper = x + 8 * row * width
        pool(upper, upper + 4 * width, out + 4 * row * columns, columns, a, b)


@njit
def _pool_products(table: int, worker: int, n: int, c: int, a: float, b: float) -> Any:
    """The sums of `_products`, of a channel that is pooled."""
    width, rows, columns = _windows(table)
    x = _address(table, NormTable.X, n, c, peek(table, NormTable.PIXELS))
    gradient = _address(table, NormTable.GRADIENT, n, c, rows * columns)
    room = peek(table, NormTable.SUMS) + worker * 2 * BYTES
    sums, mean = floats(room)[: 2 * LANES], float32_at(peek(table, NormTable.MEAN), c)
    sums[:] = F(0.0)
    for row in range(rows):
        upper = x + 8 * row * width
        pool_products(upper, upper + 4 * width, gradient + 4 * row * columns, columns, a, b, mean, room)
    return sums[:LANES].sum(), sums[LANES:].sum()


@njit
def _pool_combined(table: int, n: int, c: int, a: float, b: float, by_g: float, by_x: Any, shift: Any) -> None:
    """The gradient to a channel that is pooled, as `_combined` has it."""
    width, rows, columns = _windows(table)
    pixels = peek(table, NormTable.PIXELS)
    gradient = _address(table, NormTable.GRADIENT, n, c, rows * columns)
    x, out = _at(table, NormTable.X, n, c), _at(table, NormTable.OUT, n, c)
    apart = _address(table, NormTable.OUT, n, c, pixels) - _address(table, NormTable.X, n, c, pixels)
    for row in range(rows):
        upper = _address(table, NormTable.X, n, c, pixels) + 8 * row * width
        lower, given = upper + 4 * width, gradient + 4 * row * columns
        pool_gradient(upper, lower, given, upper + apart, lower + apart, columns, a, b, by_g, by_x, shift)
    if width % 2:
        for k in range(width - 1, pixels, width):
            out[k] = x[k] * by_x + shift
    for k in range(2 * rows * width, pixels):
        out[k] = x[k] * by_x + shift


@njit
def _factors(table: int, channel: int) -> Any:
    """1 / √(variance + ε), and a and b of the norm as a · x + b."""
    variance = float32_at(peek(table, NormTable.VARIANCE), channel)
    mean = float32_at(peek(table, NormTable.MEAN), channel)
    factor = F(1.0) / np.sqrt(variance + peek_float(table, NormTable.EPSILON))
    a = factor * float32_at(peek(table, NormTable.WEIGHT), channel)
    return factor, a, float32_at(peek(table, NormTable.BIAS), channel) - mean * a


@njit
def _passing(table: int, a: float, b: float) -> Any:
    """Numbers a and b of which a · x + b is positive where the gradient passes: everywhere without a ReLU."""
    return (a, b) if peek(table, NormTable.RELU) else (F(0.0), F(1.0))


@c_function(void(int64, int64, int64, int64))
def normalize(table: int, worker: int, first: int, end: int) -> None:
    """out = (x - mean) / √(variance + ε) · weight + bias + residual, or its ReLU, or the ReLU's max pooling.

    An item is a band of channels.
    """
    images, channels, band = peek(table, NormTable.IMAGES), peek(table, NormTable.CHANNELS), peek(table, NormTable.BAND)
    mean, variance = floats(peek(table, NormTable.MEAN)), floats(peek(table, NormTable.VARIANCE))
    running_mean, momentum = floats(peek(table, NormTable.RUNNING_MEAN)), peek_float(table, NormTable.MOMENTUM)
    running_variance = floats(peek(table, NormTable.RUNNING_VARIANCE))
    count = images * peek(table, NormTable.PIXELS)
    unbiased = F(count / (count - 1))
    each, low = 1.0 / count, F(0.0) if peek(table, NormTable.RELU) else F(-np.inf)
    for item in range(first, end):
        start, stop = item * band, min((item + 1) * band, channels)
        mean[start:stop], variance[start:stop] = F(0.0), F(0.0)
        for n in range(images):
            for c in range(start, stop):
                near = _at(table, NormTable.X, 0, c)[0]  # of the channel, so that little is lost in the difference
                total, square = _moments(_at(table, NormTable.X, n, c), near)
                mean[c] += F(each * total)
                variance[c] += F(each * square)
        for c in range(start, stop):
            variance[c] = max(variance[c] - mean[c] * mean[c], F(0.0))
            mean[c] += _at(table, NormTable.X, 0, c)[0]
            running_mean[c] += momentum * (mean[c] - running_mean[c])
            running_variance[c] += momentum * (variance[c] * unbiased - running_variance[c])
        for n in range(images):
            for c in range(start, stop):
                _, a, b = _factors(table, c)
                if peek(table, NormTable.WIDTH):
                    _pool(table, n, c, a, b)
                    continue
                x, out = _at(table, NormTable.X, n, c), _at(table, NormTable.OUT, n, c)
                if peek(table, NormTable.RESIDUAL):
                    _affine_sum(x, _at(table, NormTable.RESIDUAL, n, c), out, a, b, low)
                else:
                    _affine(x, out, a, b, low)


@c_function(void(int64, int64, int64, int64))
def normalize_back(table: int, worker: int, first: int, end: int) -> None:
    """The gradients to x, weight and bias, and to a residual before a ReLU; an item is a band of channels."""
    images, channels, band = peek(table, NormTable.IMAGES), peek(table, NormTable.CHANNELS), peek(table, NormTable.BAND)
    to_weight, to_bias = floats(peek(table, NormTable.TO_WEIGHT)), floats(peek(table, NormTable.TO_BIAS))
    mean, each = floats(peek(table, NormTable.MEAN)), 1.0 / (images * peek(table, NormTable.PIXELS))
    residual = peek(table, NormTable.RESIDUAL) != 0
    gradient = NormTable.RESIDUAL if residual else NormTable.GRADIENT  # of which the second pass goes out
    for item in range(first, end):
        start, stop = item * band, min((item + 1) * band, channels)
        to_weight[start:stop], to_bias[start:stop] = F(0.0), F(0.0)
        for n in range(images):
            for c in range(start, stop):
                g, x = _at(table, NormTable.GRADIENT, n, c), _at(table, NormTable.X, n, c)
                factor, a, b = _factors(table, c)
                if peek(table, NormTable.WIDTH):
                    total, product = _pool_products(table, worker, n, c, a, b)
                elif residual:
                    passed = _at(table, NormTable.RESIDUAL, n, c)
                    total, product = _passed(g, _at(table, NormTable.RESULT, n, c), passed, x, mean[c])
                else:
                    p, q = _passing(table, a, b)
                    total, product = _products(g, x, mean[c], p, q)
                to_bias[c] += total
                to_weight[c] += product * factor
        for n in range(images):
            for c in range(start, stop):
                g, x = _at(table, gradient, n, c), _at(table, NormTable.X, n, c)
                factor, a, b = _factors(table, c)
                by_x = F(-each * a * factor * to_weight[c])
                shift = F(-each * a * to_bias[c]) - by_x * mean[c]
                if peek(table, NormTable.WIDTH):
                    _pool_combined(table, n, c, a, b, a, by_x, shift)
                    continue
                p, q = (F(0.0), F(1.0)) if residual else _passing(table, a, b)
                _combined(g, x, _at(table, NormTable.OUT, n, c), p, q, a, by_x, shift)


class _Pass:
    """Forward or back on images of one shape, to be run again."""

    def __init__(self, function: CFunction, shape: Sequence[int], pooled: bool, threads: int):
        channels, pixels = shape[1], math.prod(shape[2:])
        band = max(1, min(BAND // max(1, shape[0] * pixels), channels // threads))
        self.table, self.sums = np.zeros(NormTable.SIZE, np.int64), aligned(threads * 2 * LANES)
        self.table[NormTable.IMAGES : NormTable.WIDTH] = shape[0], channels, pixels, band
        self.table[NormTable.WIDTH], self.table[NormTable.SUMS] = shape[-1] if pooled else 0, self.sums.ctypes.data
        self.numbers = self.table.view(np.float32)[2 * NormTable.EPSILON :: 2]
        self.program = Program([Task(function, self.table, -(-channels // band))], threads, beside_torch=True)


@functools.lru_cache(maxsize=256)
def _idle(function: CFunction, shape: Sequence[int], pooled: bool, threads: int) -> list[_Pass]:
    """The passes that no thread runs at present."""
    return []


def _run(
    function: CFunction, threads: int, relu: bool, pooled: bool, numbers: tuple[float, float], *arrays: Floats | None
) -> None:
    """Run a pass with the arrays in the table's order and the numbers ε and momentum."""
    key = (function, arrays[0].shape, pooled, threads)  # pyright: ignore[reportOptionalMemberAccess]
    idle = _idle(*key)
    try:
        one = idle.pop()
    except IndexError:
        one = _Pass(*key)
    one.table[: len(arrays)] = [0 if array is None else array.address for array in arrays]
    one.table[_RELU], one.numbers[:] = relu, numbers
    one.program()
    idle.append(one)


_RELU = int(NormTable.RELU)


def forward(
    x: Floats,
    weight: Floats,
    bias: Floats,
    residual: Floats | None,
    epsilon: float,
    relu: bool,
    momentum: float,
    out: Floats,
    mean: Floats,
    variance: Floats,
    running_mean: Floats,
    running_variance: Floats,
    pooled: bool = False,
    threads: int = 1,
) -> None:
    """Set out (N, C, …) to the norm of x plus the residual (N, C, …), or None, or to the ReLU of that.

    mean and variance (C,), biased, become those of x's channels, whose share in those that run on, with an unbiased
    variance, is the momentum. A channel has more than one value. `pooled` has out (N, C, H // 2, W // 2) hold the
    largest of every two by two pixels of the ReLU, without a residual.
    """
    given = (x, out, weight, bias, mean, variance, residual, running_mean, running_variance)
    _run(normalize, threads, relu, pooled, (epsilon, momentum), *given)


def backward(
    x: Floats,
    weight: Floats,
    bias: Floats,
    epsilon: float,
    relu: bool,
    mean: Floats,
    variance: Floats,
    gradient: Floats,
    to_x: Floats,
    to_weight: Floats,
    to_bias: Floats,
    result: Floats | None = None,
    to_residual: Floats | None = None,
    pooled: bool = False,
    threads: int = 1,
) -> None:
    """Set to_x (N, C, …), to_weight and to_bias (C,) from the gradient to what `forward` put out, of its shape.

    Where there was a residual before a ReLU, `result` is what forward put out, and to_residual is set, too.
    """
    given = (x, to_x, weight, bias, mean, variance, to_residual, None, None, gradient, result, to_weight, to_bias)
    _run(normalize_back, threads, relu, pooled, (epsilon, 0.0), *given)
