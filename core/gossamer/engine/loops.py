"""Compiled loops for what stands between the convolutions: scalings, sums and depthwise convolutions of images.

Arrays are flat and begin at the first pixel of the first channel; `size` is (images, channels, rows, columns), and the
`at` of an array holds the floats from one image, channel and row to the next. Columns are adjacent.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from gossamer.kernels import ACTIVATIONS

CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
NONE, RELU, CLAMP, LEAKY_RELU, HARDSWISH, HARDSIGMOID, SIGMOID, SILU, GELU, GELU_TANH = range(len(ACTIVATIONS))
ADD, SUBTRACT, MULTIPLY, DIVIDE = range(4)
FUNCTIONS = {"add": ADD, "subtract": SUBTRACT, "multiply": MULTIPLY, "divide": DIVIDE}
F = np.float32

NOTHING = np.zeros(0, F)


class _Memory:
    """Memory around an image, as NumPy's array interface."""

    def __init__(self, image: np.ndarray, around: int):
        extent = sum((size - 1) * stride // 4 for size, stride in zip(image.shape, image.strides, strict=True)) + 1
        data = (image.ctypes.data - 4 * around, False)
        self.image = image
        self.__array_interface__ = {"version": 3, "typestr": "<f4", "data": data, "shape": (extent + 2 * around,)}


def flat(image: np.ndarray, around: int = 0) -> np.ndarray:
    """Return the memory from an image's first pixel to its last, and `around` floats more on both sides, flat."""
    return np.asarray(_Memory(image, around))


def strides(*images: np.ndarray) -> np.ndarray:
    """Return the floats from one image, channel and row to the next, for each array."""
    return np.array([[stride // 4 for stride in image.strides[:3]] for image in images], np.int64)


def code(activation: dict | None) -> tuple[int, np.float32, np.float32]:
    """Return the number and the two constants that stand for an activation in JSON form."""
    activation = activation or {"name": "none"}
    low = activation.get("slope", 0.01) if activation["name"] == "leaky_relu" else activation.get("low", -np.inf)
    return CODES[activation["name"]], F(low), F(activation.get("high", np.inf))


def _compiled(*fastmath: str) -> Callable[[Callable], Any]:
    """Return a decorator that compiles a loop, and keeps its code on disk if there is a place for it."""
    options: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp", "afn", *fastmath}}

    def compiled(loop: Callable) -> Any:
        try:
            return njit(cache=True, **options)(loop)
        except RuntimeError:  # neither this folder nor the home can be written
            return njit(**options)(loop)

    return compiled


plain_loop, summing_loop = _compiled(), _compiled("reassoc")


@plain_loop
def _clamp(x, low, high):
    """min(max(x, low), high), and NaN of NaN."""
    x = low if x < low else x
    return high if x > high else x


@plain_loop
def _exp(x):
    """e^x = 2^n e^r, |r| <= ln 2 / 2, e^r by a polynomial (Cephes): relative error below 2e-7; 1.5 * 2^23 rounds."""
    x = _clamp(x, F(-87.0), F(88.0))
    t = x * F(1.4426950408889634) + F(12582912.0)
    n = t - F(12582912.0)
    r = x - n * F(0.693359375) + n * F(2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1.0)
    return p * np.int32((F(t).view(np.int32) + np.int32(127)) * np.int32(8388608)).view(np.float32)


@plain_loop
def _sigmoid(x):
    return F(1.0) / (F(1.0) + _exp(-x))


@plain_loop
def _normal(x):
    """The normal distribution function, erf by Abramowitz and Stegun (1964), formula 7.1.26."""
    z = abs(x) * F(0.7071067811865476)
    t = F(1.0) / (F(1.0) + F(0.3275911) * z)
    series = F(-1.453152027) + t * F(1.061405429)
    series = t * (F(0.254829592) + t * (F(-0.284496736) + t * (F(1.421413741) + t * series)))
    tail = F(0.5) * series * _exp(-z * z)
    return F(1.0) - tail if x > 0 else tail


@plain_loop
def _activate(y, code, low, high):
    """Apply the activation to a row in place."""
    if code == RELU:
        for i in range(y.size):
            y[i] = F(0.0) if y[i] < F(0.0) else y[i]
    elif code == CLAMP:
        for i in range(y.size):
            y[i] = _clamp(y[i], low, high)
    elif code == LEAKY_RELU:
        for i in range(y.size):
            y[i] = low * y[i] if y[i] < F(0.0) else y[i]
    elif code == HARDSWISH:
        for i in range(y.size):
            y[i] = y[i] * _clamp(y[i] * F(1 / 6) + F(0.5), F(0.0), F(1.0))
    elif code == HARDSIGMOID:
        for i in range(y.size):
            y[i] = _clamp(y[i] * F(1 / 6) + F(0.5), F(0.0), F(1.0))
    elif code == SIGMOID:
        for i in range(y.size):
            y[i] = _sigmoid(y[i])
    elif code == SILU:
        for i in range(y.size):
            y[i] = y[i] * _sigmoid(y[i])
    elif code == GELU:
        for i in range(y.size):
            y[i] = y[i] * _normal(y[i])
    elif code == GELU_TANH:
        for i in range(y.size):
            y[i] = y[i] * _sigmoid(F(1.5957691216057308) * (y[i] + F(0.044715) * y[i] * y[i] * y[i]))


@plain_loop
def scale_rows(x, residual, out, scale, shift, size, at, code, low, high):
    """out = activation(scale * x + shift + residual); scale and shift are (1 or images, channels)."""
    for n in range(size[0]):
        for c in range(size[1]):
            s, t = scale[n % scale.shape[0], c], shift[n % shift.shape[0], c]
            for h in range(size[2]):
                i = n * at[0, 0] + c * at[0, 1] + h * at[0, 2]
                k = n * at[1, 0] + c * at[1, 1] + h * at[1, 2]
                a, y = x[i : i + size[3]], out[k : k + size[3]]
                if residual.size:
                    j = n * at[2, 0] + c * at[2, 1] + h * at[2, 2]
                    b = residual[j : j + size[3]]
                    for w in range(size[3]):
                        y[w] = s * a[w] + t + b[w]
                else:
                    for w in range(size[3]):
                        y[w] = s * a[w] + t
                _activate(y, code, low, high)


@plain_loop
def combine_rows(x, other, out, size, at, function, code, low, high):
    """out = activation(x add|subtract|multiply|divide other), all of one size."""
    for n in range(size[0]):
        for c in range(size[1]):
            for h in range(size[2]):
                i = n * at[0, 0] + c * at[0, 1] + h * at[0, 2]
                k = n * at[1, 0] + c * at[1, 1] + h * at[1, 2]
                j = n * at[2, 0] + c * at[2, 1] + h * at[2, 2]
                a, y, b = x[i : i + size[3]], out[k : k + size[3]], other[j : j + size[3]]
                if function == ADD:
                    for w in range(size[3]):
                        y[w] = a[w] + b[w]
                elif function == SUBTRACT:
                    for w in range(size[3]):
                        y[w] = a[w] - b[w]
                elif function == MULTIPLY:
                    for w in range(size[3]):
                        y[w] = a[w] * b[w]
                else:
                    for w in range(size[3]):
                        y[w] = a[w] / b[w]
                _activate(y, code, low, high)


@plain_loop
def depthwise_rows(x, residual, out, starts, offsets, values, bias, size, at, stride, code, low, high):
    """out = activation(sum of values[k] * x shifted by offsets[k] + bias + residual), k from starts[c] to the next.

    The taps of a channel come in whole threes. `size` is the output's; x has a halo for every offset.
    """
    for n in range(size[0]):
        for c in range(size[1]):
            for h in range(size[2]):
                k = n * at[1, 0] + c * at[1, 1] + h * at[1, 2]
                y = out[k : k + size[3]]
                if residual.size:
                    j = n * at[2, 0] + c * at[2, 1] + h * at[2, 2]
                    b = residual[j : j + size[3]]
                    for w in range(size[3]):
                        y[w] = b[w] + bias[c]
                else:
                    y[:] = bias[c]
                i = n * at[0, 0] + c * at[0, 1] + h * stride[0] * at[0, 2]
                for t in range(starts[c], starts[c + 1], 3):
                    p, q, r = x[i + offsets[t] :], x[i + offsets[t + 1] :], x[i + offsets[t + 2] :]
                    u, v, s = values[t], values[t + 1], values[t + 2]
                    if stride[1] == 1:
                        for w in range(size[3]):
                            y[w] += u * p[w] + v * q[w] + s * r[w]
                    elif stride[1] == 2:
                        for w in range(size[3]):
                            y[w] += u * p[2 * w] + v * q[2 * w] + s * r[2 * w]
                    else:
                        for w in range(size[3]):
                            y[w] += u * p[w * stride[1]] + v * q[w * stride[1]] + s * r[w * stride[1]]
                _activate(y, code, low, high)
