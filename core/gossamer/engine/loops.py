"""Compiled loops for what stands between the convolutions: scalings, sums, pooling, means and norms of images.

Arrays are flat and begin at the first pixel of the first channel; `size` is (images, channels, rows, columns), and the
`at` of an array holds the floats from one image, channel and row to the next. Columns are adjacent.
"""

import math

import numpy as np
from numba import njit

from gossamer.kernels import ACTIVATIONS

CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
NONE, RELU, CLAMP, LEAKY_RELU, HARDSWISH, HARDSIGMOID, SIGMOID, SILU, GELU, GELU_TANH = range(len(ACTIVATIONS))
ADD, SUBTRACT, MULTIPLY, DIVIDE = range(4)
FUNCTIONS = {"add": ADD, "subtract": SUBTRACT, "multiply": MULTIPLY, "divide": DIVIDE}
F = np.float32

_loop = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp", "afn"})
_sum = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp", "afn", "reassoc"})


@_loop
def _exp(x):
    """e^x = 2^n e^r, |r| <= ln 2 / 2, e^r by a polynomial (Cephes): relative error below 2e-7; 1.5 * 2^23 rounds."""
    x = min(max(x, F(-87.0)), F(88.0))
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


@_loop
def _sigmoid(x):
    return F(1.0) / (F(1.0) + _exp(-x))


@_loop
def _normal(x):
    """The normal distribution function, erf by Abramowitz and Stegun (1964), formula 7.1.26."""
    z = abs(x) * F(0.7071067811865476)
    t = F(1.0) / (F(1.0) + F(0.3275911) * z)
    series = F(-1.453152027) + t * F(1.061405429)
    series = t * (F(0.254829592) + t * (F(-0.284496736) + t * (F(1.421413741) + t * series)))
    tail = F(0.5) * series * _exp(-z * z)
    return F(1.0) - tail if x > 0 else tail


@_loop
def _activate(y, code, low, high):
    """Apply the activation to a row in place."""
    if code == RELU:
        for i in range(y.size):
            y[i] = max(y[i], F(0.0))
    elif code == CLAMP:
        for i in range(y.size):
            y[i] = min(max(y[i], low), high)
    elif code == LEAKY_RELU:
        for i in range(y.size):
            y[i] = max(y[i], F(0.0)) + low * min(y[i], F(0.0))
    elif code == HARDSWISH:
        for i in range(y.size):
            y[i] = y[i] * min(max(y[i] * F(1 / 6) + F(0.5), F(0.0)), F(1.0))
    elif code == HARDSIGMOID:
        for i in range(y.size):
            y[i] = min(max(y[i] * F(1 / 6) + F(0.5), F(0.0)), F(1.0))
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


@_loop
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


@_loop
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


@_loop
def pool_rows(x, out, size, rows, columns, at, kernel, stride, padding, dilation, divisors):
    """The largest value of each window, or, where there are `divisors` (out rows, out columns), its sum by them.

    `size` is the output's; rows and columns are the input's.
    """
    largest = divisors.size == 0
    for n in range(size[0]):
        for c in range(size[1]):
            for h in range(size[2]):
                k = n * at[1, 0] + c * at[1, 1] + h * at[1, 2]
                y = out[k : k + size[3]]
                y[:] = F(-math.inf) if largest else F(0.0)
                for p in range(kernel[0]):
                    row = h * stride[0] - padding[0] + p * dilation[0]
                    if row < 0 or row >= rows:
                        continue
                    i = n * at[0, 0] + c * at[0, 1] + row * at[0, 2]
                    a = x[i : i + columns]
                    for q in range(kernel[1]):
                        left = q * dilation[1] - padding[1]
                        start = max(0, -(left // stride[1]))  # ceil(-left / stride)
                        stop = min(size[3], (columns - 1 - left) // stride[1] + 1)
                        if largest:
                            for w in range(start, stop):
                                y[w] = max(y[w], a[w * stride[1] + left])
                        else:
                            for w in range(start, stop):
                                y[w] += a[w * stride[1] + left]
                if not largest:
                    for w in range(size[3]):
                        y[w] /= divisors[h, w]


@_sum
def mean_rows(x, out, size, at):
    """out (images, channels) = the mean over rows and columns."""
    for n in range(size[0]):
        for c in range(size[1]):
            total = F(0.0)
            for h in range(size[2]):
                i = n * at[0, 0] + c * at[0, 1] + h * at[0, 2]
                a = x[i : i + size[3]]
                for w in range(size[3]):
                    total += a[w]
            out[n, c] = total / F(size[2] * size[3])


@_loop
def norm_rows(x, out, weight, bias, size, at, epsilon):
    """Layer norm over the channels of each pixel."""
    mean, scale = np.empty(size[3], F), np.empty(size[3], F)
    for n in range(size[0]):
        for h in range(size[2]):
            mean[:] = F(0.0)
            scale[:] = F(0.0)
            for c in range(size[1]):
                i = n * at[0, 0] + c * at[0, 1] + h * at[0, 2]
                a = x[i : i + size[3]]
                for w in range(size[3]):
                    mean[w] += a[w]
            for w in range(size[3]):
                mean[w] /= F(size[1])
            for c in range(size[1]):
                i = n * at[0, 0] + c * at[0, 1] + h * at[0, 2]
                a = x[i : i + size[3]]
                for w in range(size[3]):
                    scale[w] += (a[w] - mean[w]) * (a[w] - mean[w])
            for w in range(size[3]):
                scale[w] = F(1.0) / F(math.sqrt(scale[w] / F(size[1]) + epsilon))
            for c in range(size[1]):
                i = n * at[0, 0] + c * at[0, 1] + h * at[0, 2]
                k = n * at[1, 0] + c * at[1, 1] + h * at[1, 2]
                a, y = x[i : i + size[3]], out[k : k + size[3]]
                for w in range(size[3]):
                    y[w] = (a[w] - mean[w]) * scale[w] * weight[c] + bias[c]
