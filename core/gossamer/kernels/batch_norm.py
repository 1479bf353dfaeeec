"""Batch norm in training: a band of channels at a time, which stays in the second-level cache from pass to pass."""

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
    OUT = auto()  # of the norm, or the gradient to x
    GRADIENT = auto()  # to the norm's output
    IMAGES = auto()
    CHANNELS = auto()
    PIXELS = auto()  # of a channel, contiguous
    BAND = auto()  # channels of an item
    EPSILON = auto()  # float32
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
def _products(g: np.ndarray, x: np.ndarray, mean: float) -> Any:
    """Σ g and Σ g · (x - mean)."""
    total = product = F(0.0)
    for k in range(x.size):
        total += g[k]
        product += g[k] * (x[k] - mean)
    return total, product


@fast
def _affine(x: np.ndarray, out: np.ndarray, a: float, b: float) -> None:
    for k in range(x.size):
        out[k] = x[k] * a + b


@fast
def _combined(g: np.ndarray, x: np.ndarray, out: np.ndarray, a: float, b: float, c: float) -> None:
    for k in range(x.size):
        out[k] = g[k] * a + x[k] * b + c


@njit
def _at(table: int, array: int, image: int, channel: int) -> np.ndarray:
    """The pixels of a channel of an image; `array` is X, OUT or GRADIENT."""
    pixels = peek(table, NormTable.PIXELS)
    return floats(peek(table, array) + 4 * (image * peek(table, NormTable.CHANNELS) + channel) * pixels)[:pixels]


@njit
def _factor(table: int, channel: int) -> Any:
    """1 / √(variance + ε)."""
    variance = float32_at(peek(table, NormTable.VARIANCE), channel)
    return F(1.0) / np.sqrt(variance + peek_float(table, NormTable.EPSILON))


@c_function(void(int64, int64, int64, int64))
def normalize(table: int, worker: int, first: int, end: int) -> None:
    """out = (x - mean) / √(variance + ε) · weight + bias; an item is a band of channels."""
    images, channels, band = peek(table, NormTable.IMAGES), peek(table, NormTable.CHANNELS), peek(table, NormTable.BAND)
    mean, variance = floats(peek(table, NormTable.MEAN)), floats(peek(table, NormTable.VARIANCE))
    each = 1.0 / (images * peek(table, NormTable.PIXELS))
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
                a = _factor(table, c) * float32_at(peek(table, NormTable.WEIGHT), c)
                b = float32_at(peek(table, NormTable.BIAS), c) - mean[c] * a
                _affine(_at(table, NormTable.X, n, c), _at(table, NormTable.OUT, n, c), a, b)


@c_function(void(int64, int64, int64, int64))
def normalize_back(table: int, worker: int, first: int, end: int) -> None:
    """The gradients to x, weight and bias; an item is a band of channels."""
    images, channels, band = peek(table, NormTable.IMAGES), peek(table, NormTable.CHANNELS), peek(table, NormTable.BAND)
    to_weight, to_bias = floats(peek(table, NormTable.TO_WEIGHT)), floats(peek(table, NormTable.TO_BIAS))
    mean, each = floats(peek(table, NormTable.MEAN)), 1.0 / (images * peek(table, NormTable.PIXELS))
    for item in range(first, end):
        start, stop = item * band, min((item + 1) * band, channels)
        to_weight[start:stop], to_bias[start:stop] = F(0.0), F(0.0)
        for n in range(images):
            for c in range(start, stop):
                g, x = _at(table, NormTable.GRADIENT, n, c), _at(table, NormTable.X, n, c)
                total, product = _products(g, x, mean[c])
                to_bias[c] += total
                to_weight[c] += product * _factor(table, c)
        for n in range(images):
            for c in range(start, stop):
                g, x = _at(table, NormTable.GRADIENT, n, c), _at(table, NormTable.X, n, c)
                a = _factor(table, c) * float32_at(peek(table, NormTable.WEIGHT), c)
                b = F(-each * a * _factor(table, c) * to_weight[c])
                shift = F(-each * a * to_bias[c]) - b * mean[c]
                _combined(g, x, _at(table, NormTable.OUT, n, c), a, b, shift)


def _run(
    function: CFunction, x: np.ndarray, out: np.ndarray, weight: np.ndarray, epsilon: float, threads: int, **arrays
) -> None:
    """Run a pass on contiguous images (N, C, …); `arrays` are further ones by the names of their columns."""
    table = np.zeros(NormTable.SIZE, np.int64)
    channels, pixels = x.shape[1], int(np.prod(x.shape[2:]))
    band = max(1, min(BAND // max(1, pixels), channels // threads))
    table[NormTable.IMAGES : NormTable.EPSILON] = len(x), channels, pixels, band
    table.view(np.float32)[2 * NormTable.EPSILON] = epsilon
    for name, array in (("X", x), ("OUT", out), ("WEIGHT", weight), *arrays.items()):
        table[NormTable[name]] = array.ctypes.data
    Program([Task(function, table, -(-channels // band))], threads, beside_torch=True)()


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    epsilon: float,
    out: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    threads: int = 1,
) -> None:
    """Set out (N, C, …) to the norm of x, and mean and variance (C,), biased, to those of its channels."""
    _run(normalize, x, out, weight, epsilon, threads, BIAS=bias, MEAN=mean, VARIANCE=variance)


def backward(
    x: np.ndarray,
    weight: np.ndarray,
    epsilon: float,
    mean: np.ndarray,
    variance: np.ndarray,
    gradient: np.ndarray,
    to_x: np.ndarray,
    to_weight: np.ndarray,
    to_bias: np.ndarray,
    threads: int = 1,
) -> None:
    """Set to_x (N, C, …), to_weight and to_bias (C,) from the gradient (N, C, …) to the norm's output."""
    arrays = {"MEAN": mean, "VARIANCE": variance, "GRADIENT": gradient, "TO_WEIGHT": to_weight, "TO_BIAS": to_bias}
    _run(normalize_back, x, to_x, weight, epsilon, threads, **arrays)
