"""Pooling: the largest value, the sum or the mean of windows of images. An item is one channel of one image."""

import math
from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.image_loops import F, Image, fast, place, summing
from gossamer.kernels.memory import floats, peek, poke
from gossamer.kernels.simd import BYTES, FLOAT, LANES, VECTOR, Vectors, const, intrinsic


class Pool(IntEnum):
    """The further columns of a pooling's table, in (rows, columns)."""

    ROWS = Image.END  # of the input
    COLUMNS = auto()
    KERNEL = auto()
    KERNEL_COLUMNS = auto()
    STRIDE = auto()
    STRIDE_COLUMNS = auto()
    PADDING = auto()
    PADDING_COLUMNS = auto()
    DILATION = auto()
    DILATION_COLUMNS = auto()
    DIVISORS = auto()  # float32 (out rows, out columns) by which sums are divided; 0 for the largest value
    SIZE = auto()


@intrinsic
def _pool_pairs(_: Any, upper: Any, lower: Any, out: Any, count: Any) -> Any:
    """Set `count` floats to the largest of two of the upper and two of the lower row each; NaN if one is."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v, b = Vectors(builder), builder
        upper, lower, out, count = args

        def larger(x: ir.Value, y: ir.Value) -> ir.Value:
            return v.call(f"llvm.maximum.v{LANES}f32", VECTOR, x, y)

        def joined(index: ir.Value, mask: ir.Value) -> ir.Value:
            return larger(*(v.masked(v.at(row, index, BYTES), mask) for row in (upper, lower)))

        def pooled(near: ir.Value, far: ir.Value) -> list[ir.Value]:
            return [larger(*(v.shuffle(near, far, range(odd, 2 * LANES, 2)) for odd in (0, 1)))]

        def body(index: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            near, far = (joined(b.add(index, b.add(index, const(k))), every) for k in (0, 1))
            v.store(pooled(near, far)[0], v.at(out, index, BYTES))
            return []

        every, full = v.first(const(LANES)), b.sdiv(count, const(LANES))
        v.loop(const(0), full, [], body)
        rest, place = b.sub(count, b.mul(full, const(LANES))), b.mul(full, const(2))

        def tail() -> list[ir.Value]:
            near, beyond = joined(place, v.first(b.mul(rest, const(2)))), b.sub(b.mul(rest, const(2)), const(LANES))
            value = v.either(
                b.icmp_signed(">", beyond, const(0)),
                lambda: pooled(near, joined(b.add(place, const(1)), v.first(beyond))),
                lambda: pooled(near, near),
            )
            v.store(value[0], v.at(out, full, BYTES), v.first(rest))
            return []

        v.either(b.icmp_signed(">", rest, const(0)), tail, list)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@c_function(void(int64, int64, int64, int64))
def pool_pairs(table: int, worker: int, first: int, end: int) -> None:
    """The largest value of every two by two pixels, the pooling of most plain networks."""
    channels = peek(table, Image.CHANNELS)
    for item in range(first, end):
        n, c = item // channels, item % channels
        for h in range(peek(table, Image.HEIGHT)):
            upper, lower = place(table, Image.X, n, c, 2 * h), place(table, Image.X, n, c, 2 * h + 1)
            _pool_pairs(upper, lower, place(table, Image.OUT, n, c, h), peek(table, Image.WIDTH))


@intrinsic
def _larger(_: Any, a: Any, b: Any) -> Any:
    """The larger of two numbers, NaN if one is; Numba's max becomes masked stores, which stall the loads after them."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        return Vectors(builder).call("llvm.maximum.f32", FLOAT, *args)

    return types.float32(types.float32, types.float32), emit


@fast
def _join(y: np.ndarray, x: np.ndarray, step: int, count: int, largest: bool) -> None:
    """Set y[w] to the largest, or the sum, of x[w], x[w + step], … (`count` of them)."""
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


@fast
def _join_three(y: np.ndarray, x: np.ndarray, step: int, count: int) -> None:
    """Set y[w] to the largest of x[w], x[w + step] and x[w + (count - 1) · step]: in one go, as what was just written
    is slow to read.
    """
    a, b, d = x[: y.size], x[step : step + y.size], x[(count - 1) * step : (count - 1) * step + y.size]
    for w in range(y.size):
        y[w] = _larger(_larger(a[w], b[w]), d[w])


@fast
def _take(y: np.ndarray, window: np.ndarray, step: int) -> None:
    """Every `step`-th of the places of a window."""
    if step == 2:
        for w in range(y.size):
            y[w] = window[2 * w]
    else:
        for w in range(y.size):
            y[w] = window[w * step]


@c_function(void(int64, int64, int64, int64))
def pool_windows(table: int, worker: int, first: int, end: int) -> None:
    """The largest value of each window, or its sum divided.

    A window's rows are joined, then the columns of windows at every place, of which those of the stride are taken.
    """
    channels, width = peek(table, Image.CHANNELS), peek(table, Image.WIDTH)
    columns, kernel = peek(table, Pool.COLUMNS), peek(table, Pool.KERNEL_COLUMNS)
    step = peek(table, Pool.STRIDE_COLUMNS)
    before, right = peek(table, Pool.PADDING_COLUMNS), peek(table, Pool.DILATION_COLUMNS)
    largest = peek(table, Pool.DIVISORS) == 0
    places = -(-((width - 1) * step + 1) // 16) * 16
    column = np.empty(max(places + (kernel - 1) * right, before + columns), F)
    column[:] = F(-math.inf) if largest else F(0.0)
    inside = column[before : before + columns]
    window = np.empty(places, F)
    for item in range(first, end):
        for h in range(peek(table, Image.HEIGHT)):
            _pool_row(table, item // channels, item % channels, h, column, inside, window, largest)


@njit
def _pool_row(
    table: int, n: int, c: int, h: int, column: np.ndarray, inside: np.ndarray, window: np.ndarray, largest: bool
) -> None:
    """One row of one channel."""
    width, down, right = peek(table, Image.WIDTH), peek(table, Pool.DILATION), peek(table, Pool.DILATION_COLUMNS)
    kernel, step = peek(table, Pool.KERNEL_COLUMNS), peek(table, Pool.STRIDE_COLUMNS)
    top = h * peek(table, Pool.STRIDE) - peek(table, Pool.PADDING)
    begin = -(min(top, 0) // down)  # ceil(-top / dilation) if that is positive
    count = min(peek(table, Pool.KERNEL), (peek(table, Pool.ROWS) - 1 - top) // down + 1) - begin
    x = floats(place(table, Image.X, n, c, top + begin * down))
    apart = down * peek(table, Image.X_ROW) // 4
    if largest and 2 <= count == kernel <= 3:
        _join_three(inside, x, apart, count)
        _join_three(window, column, right, count)
    else:
        _join(inside, x, apart, count, largest)
        _join(window, column, right, kernel, largest)
    y = floats(place(table, Image.OUT, n, c, h))[:width]
    _take(y, window, step)
    if not largest:
        divisors = floats(peek(table, Pool.DIVISORS))[h * width : (h + 1) * width]
        for w in range(width):
            y[w] /= divisors[w]


@summing
def _sum(a: np.ndarray) -> np.float32:
    """The sum of a row."""
    total = F(0.0)
    for w in range(a.size):
        total += a[w]
    return total


@c_function(void(int64, int64, int64, int64))
def average_images(table: int, worker: int, first: int, end: int) -> None:
    """out (images, channels) = the mean over the rows and columns of x, which HEIGHT and WIDTH count."""
    channels, height, width = peek(table, Image.CHANNELS), peek(table, Image.HEIGHT), peek(table, Image.WIDTH)
    for item in range(first, end):
        n, c = item // channels, item % channels
        total = F(0.0)
        for h in range(height):
            total += _sum(floats(place(table, Image.X, n, c, h))[:width])
        poke(place(table, Image.OUT, n, c, 0), total / F(height * width))
