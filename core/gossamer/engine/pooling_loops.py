"""Compiled loops of pooling, means and norms of images; their arrays are those of `loops`.

What a loop calls stands in its own file, for Numba keeps its machine code until that file changes.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gossamer.engine.loops import F, plain_loop, summing_loop


def _emit_larger(context, builder, signature, args):
    kind = ir.FloatType()
    function = builder.module.globals.get("llvm.maximum.f32")
    function = function or ir.Function(builder.module, ir.FunctionType(kind, [kind, kind]), "llvm.maximum.f32")
    return builder.call(function, args)


def _type_larger(_, a, b):
    return types.float32(types.float32, types.float32), _emit_larger


_larger: Any = intrinsic(_type_larger)
"""The larger of two numbers, NaN if one is; Numba's own max becomes masked stores, which stall the loads after them."""


@plain_loop
def _join(y, x, step, count, largest):
    """Set y[w] to the largest, or the sum, of x[w], x[w + step], ... (`count` of them)."""
    n = y.size
    y[:] = x[:n]
    for k in range(1, count):
        a = x[k * step : k * step + n]
        if largest:
            for w in range(n):
                y[w] = _larger(y[w], a[w])
        else:
            for w in range(n):
                y[w] += a[w]


@plain_loop
def pool_rows(x, out, size, rows, columns, at, kernel, stride, padding, dilation, divisors):
    """The largest value of each window, or, where there are `divisors` (out rows, out columns), its sum by them.

    `size` is the output's; rows and columns are the input's. A window's rows are joined, then the columns of windows
    at every place, of which those of the stride are taken.
    """
    largest = divisors.size == 0
    places = -(-((size[3] - 1) * stride[1] + 1) // 16) * 16
    column = np.empty(max(places + (kernel[1] - 1) * dilation[1], padding[1] + columns), F)
    column[:] = F(-math.inf) if largest else F(0.0)
    inside = column[padding[1] : padding[1] + columns]
    window = np.empty(places, F)
    for n in range(size[0]):
        for c in range(size[1]):
            for h in range(size[2]):
                top = h * stride[0] - padding[0]
                first = -(min(top, 0) // dilation[0])  # ceil(-top / dilation) if that is positive
                last = min(kernel[0], (rows - 1 - top) // dilation[0] + 1)
                start = n * at[0, 0] + c * at[0, 1] + (top + first * dilation[0]) * at[0, 2]
                down, right = at[0, 2] * dilation[0], dilation[1]
                count = last - first
                if largest and 2 <= count == kernel[1] <= 3:  # in one go: what was just written is slow to read
                    a, b, d = x[start:], x[start + down :], x[start + (count - 1) * down :]
                    for w in range(columns):
                        inside[w] = _larger(_larger(a[w], b[w]), d[w])
                    a, b, d = column[:places], column[right:], column[(count - 1) * right :]
                    for w in range(places):
                        window[w] = _larger(_larger(a[w], b[w]), d[w])
                else:
                    _join(inside, x[start:], down, count, largest)
                    _join(window, column, right, kernel[1], largest)
                k = n * at[1, 0] + c * at[1, 1] + h * at[1, 2]
                y = out[k : k + size[3]]
                if stride[1] == 2:
                    for w in range(size[3]):
                        y[w] = window[2 * w]
                else:
                    for w in range(size[3]):
                        y[w] = window[w * stride[1]]
                if not largest:
                    for w in range(size[3]):
                        y[w] /= divisors[h, w]


@summing_loop
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


@plain_loop
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
