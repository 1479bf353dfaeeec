"""Batch norm in training: a band of channels at a time, which stays in the second-level cache from pass to pass.

What follows a norm goes along: a residual that is added, and a ReLU.
"""

import functools
from enum import IntEnum, auto
from typing import Any

import numpy as np
from numba import njit
from numba.core.types import int64, void

from gossamer.kernels.compiled import CFunction, c_function
from gossamer.kernels.image_loops import F, fast, summing
from gossamer.kernels.memory import float32_at, floats, peek, peek_float
from gossamer.kernels.tasks import Program, Task

BAND = 4096  # pixels of one image that an item holds, if its channels are smaller


class NormTable(IntEnum):
    """The columns of a batch norm's table; strides are in bytes, sums and factors float32 (channels,)."""

    X = 0
    OUT = auto()  # what comes out, or the gradient to x
    GRADIENT = auto()  # to what came out
    RESIDUAL = auto()  # what is added, or its gradient; 0 if there is none
    RESULT = auto()  # what came out, where there is a residual
    IMAGES = auto()
    CHANNELS = auto()
    PIXELS = auto()  # of a channel, contiguous
    BAND = auto()  # channels of an item
    EPSILON = auto()  # float32
    RELU = auto()  # 1 where what is negative becomes 0
    WEIGHT = auto()
    BIAS = auto()
    MEAN = auto()
    VARIANCE = auto()  # biased
    TO_WEIGHT = auto()  # the gradients, of which bias's comes first
    TO_BIAS = auto()
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
def _at(table: int, array: int, image: int, channel: int) -> np.ndarray:
    """The pixels of a channel of an image; `array` is X, OUT, GRADIENT, RESIDUAL or RESULT."""
    pixels = peek(table, NormTable.PIXELS)
    return floats(peek(table, array) + 4 * (image * peek(table, NormTable.CHANNELS) + channel) * pixels)[:pixels]


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
    """out = (x - mean) / √(variance + ε) · weight + bias + residual, or its ReLU; an item is a band of channels."""
    images, channels, band = peek(table, NormTable.IMAGES), peek(table, NormTable.CHANNELS), peek(table, NormTable.BAND)
    mean, variance = floats(peek(table, NormTable.MEAN)), floats(peek(table, NormTable.VARIANCE))
    each, low = 1.0 / (images * peek(table, NormTable.PIXELS)), F(0.0) if peek(table, NormTable.RELU) else F(-np.inf)
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
        for n in range(images):
            for c in range(start, stop):
                _, a, b = _factors(table, c)
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
                if residual:
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
                p, q = (F(0.0), F(1.0)) if residual else _passing(table, a, b)
                _combined(g, x, _at(table, NormTable.OUT, n, c), p, q, a, by_x, shift)


@functools.lru_cache(maxsize=256)
def _idle(function: CFunction, shape: tuple[int, ...], threads: int) -> list[tuple[np.ndarray, Program]]:
    """The tables and programs of a pass that no thread runs at present."""
    return []


def _made(function: CFunction, shape: tuple[int, ...], threads: int) -> tuple[np.ndarray, Program]:
    """The table and the program of a pass on images of this shape."""
    table = np.zeros(NormTable.SIZE, np.int64)
    channels, pixels = shape[1], int(np.prod(shape[2:]))
    band = max(1, min(BAND // max(1, pixels), channels // threads))
    table[NormTable.IMAGES : NormTable.EPSILON] = shape[0], channels, pixels, band
    return table, Program([Task(function, table, -(-channels // band))], threads, beside_torch=True)


def _run(function: CFunction, x: np.ndarray, epsilon: float, relu: bool, threads: int, **arrays: Any) -> None:
    """Run a pass on contiguous images x (N, C, …); `arrays` are all arrays by the names of their columns, or None."""
    idle = _idle(function, x.shape, threads)
    try:
        table, program = idle.pop()
    except IndexError:
        table, program = _made(function, x.shape, threads)
    table.view(np.float32)[2 * NormTable.EPSILON], table[NormTable.RELU] = epsilon, relu
    table[NormTable.X] = x.ctypes.data
    for name, array in arrays.items():
        table[NormTable[name]] = 0 if array is None else array.ctypes.data
    program()
    idle.append((table, program))


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    residual: np.ndarray | None,
    epsilon: float,
    relu: bool,
    out: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    threads: int = 1,
) -> None:
    """Set out (N, C, …) to the norm of x plus the residual (N, C, …), or None, or to the ReLU of that.

    mean and variance (C,), biased, become those of x's channels.
    """
    arrays = {"WEIGHT": weight, "BIAS": bias, "OUT": out, "MEAN": mean, "VARIANCE": variance, "RESIDUAL": residual}
    _run(normalize, x, epsilon, relu, threads, **arrays)


def backward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    epsilon: float,
    relu: bool,
    mean: np.ndarray,
    variance: np.ndarray,
    gradient: np.ndarray,
    to_x: np.ndarray,
    to_weight: np.ndarray,
    to_bias: np.ndarray,
    result: np.ndarray | None = None,
    to_residual: np.ndarray | None = None,
    threads: int = 1,
) -> None:
    """Set to_x (N, C, …), to_weight and to_bias (C,) from the gradient (N, C, …) to what `forward` put out.

    Where there was a residual before a ReLU, `result` is what forward put out, and to_residual is set, too.
    """
    arrays = {"WEIGHT": weight, "BIAS": bias, "MEAN": mean, "VARIANCE": variance, "GRADIENT": gradient}
    arrays |= {"OUT": to_x, "TO_WEIGHT": to_weight, "TO_BIAS": to_bias}
    _run(normalize_back, x, epsilon, relu, threads, **arrays, RESULT=result, RESIDUAL=to_residual)
