"""The loops of attention, dense: scores, softmax and values of some queries of one head at a time.

The queries lie in the lanes, so that largest and total of a softmax are those of whole vectors, and both products are
blocks of ROWS × 2 vectors in registers.
"""

import math
from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.functions import Value, exponential
from gossamer.kernels.image_loops import fast, summing
from gossamer.kernels.memory import floats, peek, peek_float
from gossamer.kernels.simd import BYTES, FLOAT, LANES, VECTOR, Vectors, const, intrinsic
from gossamer.kernels.target import target

ROWS = target().registers // 4
"""The sums of a block, in pairs of vectors."""
QUERIES = 2 * LANES
"""The queries that are gone through together."""
F = np.float32


class Attention(IntEnum):
    """The columns of an attention's table; strides are in bytes, 0 where all share what lies there.

    Q, K, V and OUT are each followed by the strides of an image, a head, a token and a feature, MASK by those of an
    image, a head and a key; its queries are adjacent.
    """

    Q = 0
    K = 5
    V = 10
    OUT = 15
    MASK = 20  # 0 if there is none
    MASK_KEY = 23
    HEADS = auto()
    GROUP = auto()  # heads of queries that share a head of keys
    LENGTH = auto()  # queries
    KEYS = auto()
    FEATURES = auto()
    CAUSAL = auto()
    SCALE = auto()  # float32
    SIZE = auto()


@intrinsic
def block(_: Any, a: Any, row: Any, step: Any, count: Any, b: Any, out: Any) -> Any:
    """out[r] = sum over k < count of a[r · row + k · step] · b[k], r < ROWS; b and out are rows of two vectors."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v = Vectors(builder)
        a, row, step, count, b, out = args
        rows = [builder.add(a, builder.mul(const(r), row)) for r in range(ROWS)]

        def body(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            place, shift = v.at(b, k, 2 * BYTES), builder.mul(k, step)
            pair = [v.load(place), v.load(v.at(place, 1, BYTES))]
            new = []
            for r, start in enumerate(rows):
                weight = v.splat(v.load(builder.add(start, shift), FLOAT))
                new += [v.fma(weight, x, total) for x, total in zip(pair, sums[2 * r :], strict=False)]
            return new

        sums = v.loop(const(0), count, [ir.Constant(VECTOR, None)] * (2 * ROWS), body)
        for place, total in enumerate(sums):
            v.store(total, v.at(out, place, BYTES))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), emit


@intrinsic
def hide(_: Any, scores: Any, first: Any, end: Any) -> Any:
    """Set to −∞ the scores of the keys first … end-1 for all queries before each, the first query being `first`."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v, least = Vectors(builder), ir.Constant(VECTOR, [ir.Constant(FLOAT, float("-inf"))] * LANES)
        scores, first, end = args

        def body(key: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            before = builder.sub(key, first)
            for half in range(2):
                place = v.at(v.at(scores, key, 2 * BYTES), half, BYTES)
                v.store(least, place, v.first(builder.sub(before, const(half * LANES))))
            return []

        v.loop(first, end, [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@intrinsic
def add_mask(_: Any, scores: Any, keys: Any, mask: Any, step: Any, count: Any) -> Any:
    """Add to each key's scores a row of a mask, of which the first `count` queries are there."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v = Vectors(builder)
        scores, keys, mask, step, count = args
        lanes = [v.first(builder.sub(count, const(half * LANES))) for half in range(2)]

        def body(key: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            row = builder.add(mask, builder.mul(key, step))
            for half in range(2):
                place = v.at(v.at(scores, key, 2 * BYTES), half, BYTES)
                added = v.masked(v.at(row, half, BYTES), lanes[half])
                v.store(builder.fadd(v.load(place), added), place)
            return []

        v.loop(const(0), keys, [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit


@intrinsic
def soften(_: Any, scores: Any, keys: Any, totals: Any) -> Any:
    """Replace scores by e^(score − the query's largest), 0 below e^−87, and set `totals` to one by their sums.

    Where all scores of a query are −∞, it has zeros, and 1.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v = Vectors(builder)
        scores, keys, totals = args

        def number(x: float) -> ir.Value:
            return ir.Constant(VECTOR, [ir.Constant(FLOAT, x)] * LANES)

        def places(key: ir.Value) -> list[ir.Value]:
            return [v.at(v.at(scores, key, 2 * BYTES), half, BYTES) for half in range(2)]

        def largest(key: ir.Value, most: list[ir.Value]) -> list[ir.Value]:
            found = [v.load(place) for place in places(key)]
            return [builder.select(builder.fcmp_ordered(">", x, y), x, y) for x, y in zip(found, most, strict=True)]

        most = v.loop(const(0), keys, [number(float("-inf"))] * 2, largest)
        zero = number(0.0)
        most = [builder.select(builder.fcmp_ordered(">", x, number(float("-inf"))), x, zero) for x in most]

        def powers(key: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            new = []
            for place, top, total in zip(places(key), most, sums, strict=True):
                x = builder.fsub(v.load(place), top)
                power = exponential(v, Value(v, x)).value
                power = builder.select(builder.fcmp_ordered("<", x, number(-87.0)), zero, power)
                v.store(power, place)
                new.append(builder.fadd(total, power))
            return new

        for half, total in enumerate(v.loop(const(0), keys, [zero] * 2, powers)):
            seen = builder.select(builder.fcmp_ordered("==", total, zero), number(1.0), total)
            v.store(builder.fdiv(number(1.0), seen), v.at(totals, half, BYTES))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@fast
def gather(source: int, token: int, feature: int, features: int, count: int, scale: float, target: int) -> None:
    """Copy `count` tokens, times the scale, to rows of features; the other lanes are 0."""
    for d in range(features):
        x, y = floats(source + d * feature), floats(target + d * QUERIES * 4)[:QUERIES]
        if token == 4:
            for i in range(count):
                y[i] = x[i] * scale
        else:
            for i in range(count):
                y[i] = x[i * token // 4] * scale
        y[count:] = F(0.0)


@fast
def scatter(source: int, totals: int, target: int, token: int, feature: int, features: int, count: int) -> None:
    """Copy rows of features, times each query's factor, to `count` tokens."""
    factors = floats(totals)[:QUERIES]
    for d in range(features):
        x, y = floats(source + d * QUERIES * 4), floats(target + d * feature)
        if token == 4:
            for i in range(count):
                y[i] = x[i] * factors[i]
        else:
            for i in range(count):
                y[i * token // 4] = x[i] * factors[i]


@njit
def head_of(table: int, array: int, image: int, head: int) -> int:
    """The address of a head; `array` is Q, K, V, OUT or MASK."""
    return peek(table, array) + image * peek(table, array + 1) + head * peek(table, array + 2)


@c_function(void(int64, int64, int64, int64))
def attend(table: int, worker: int, first: int, end: int) -> None:
    """The items first … end-1 of an attention; an item is QUERIES queries of a head of an image."""
    heads, length = peek(table, Attention.HEADS), peek(table, Attention.LENGTH)
    features, tiles = peek(table, Attention.FEATURES), -(-length // QUERIES)
    scratch = np.empty((2 * features + 1 + peek(table, Attention.KEYS)) * QUERIES, F)
    queries = scratch.ctypes.data
    values = queries + features * QUERIES * 4
    totals = values + features * QUERIES * 4
    scores = totals + QUERIES * 4
    for item in range(first, end):
        image, head, start = item // (heads * tiles), item // tiles % heads, item % tiles * QUERIES
        count, keys = min(QUERIES, length - start), peek(table, Attention.KEYS)
        q = head_of(table, Attention.Q, image, head) + start * peek(table, Attention.Q + 3)
        k = head_of(table, Attention.K, image, head // peek(table, Attention.GROUP))
        v = head_of(table, Attention.V, image, head // peek(table, Attention.GROUP))
        out = head_of(table, Attention.OUT, image, head) + start * peek(table, Attention.OUT + 3)
        scale = peek_float(table, Attention.SCALE)
        gather(q, peek(table, Attention.Q + 3), peek(table, Attention.Q + 4), features, count, scale, queries)
        if peek(table, Attention.CAUSAL):
            keys = min(keys, start + QUERIES)
        rows, step = peek(table, Attention.K + 3), peek(table, Attention.K + 4)
        for m in range(0, keys, ROWS):  # the last block begins where it ends with the last key
            key = min(m, keys - ROWS)
            block(k + key * rows, rows, step, features, queries, scores + key * QUERIES * 4)
        if peek(table, Attention.CAUSAL):
            hide(scores, start, keys)
        if peek(table, Attention.MASK):
            mask = head_of(table, Attention.MASK, image, head) + start * 4
            add_mask(scores, keys, mask, peek(table, Attention.MASK_KEY), count)
        soften(scores, keys, totals)
        rows, step = peek(table, Attention.V + 4), peek(table, Attention.V + 3)
        for m in range(0, features, ROWS):
            feature = min(m, features - ROWS)
            block(v + feature * rows, rows, step, keys, scores, values + feature * QUERIES * 4)
        scatter(values, totals, out, peek(table, Attention.OUT + 3), peek(table, Attention.OUT + 4), features, count)


@summing
def product(x: np.ndarray, y: np.ndarray) -> Any:
    """The sum of x · y."""
    total = F(0.0)
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@fast
def add_times(y: np.ndarray, x: np.ndarray, factor: float) -> None:
    """y += factor · x."""
    for i in range(y.size):
        y[i] += factor * x[i]


@c_function(void(int64, int64, int64, int64))
def attend_once(table: int, worker: int, first: int, end: int) -> None:
    """The items first … end-1 of an attention of one query; an item is a head of an image, its features adjacent."""
    heads, keys, size = peek(table, Attention.HEADS), peek(table, Attention.KEYS), peek(table, Attention.FEATURES)
    scores, scale = np.empty(keys, F), peek_float(table, Attention.SCALE)
    for item in range(first, end):
        image, head = item // heads, item % heads
        q = floats(head_of(table, Attention.Q, image, head))[:size]
        k = head_of(table, Attention.K, image, head // peek(table, Attention.GROUP))
        v = head_of(table, Attention.V, image, head // peek(table, Attention.GROUP))
        out = floats(head_of(table, Attention.OUT, image, head))[:size]
        most = F(-np.inf)
        for key in range(keys):
            scores[key] = product(q, floats(k + key * peek(table, Attention.K + 3))[:size]) * scale
            most = max(most, scores[key])
        total = F(0.0)
        for key in range(keys):
            scores[key] = math.exp(scores[key] - most)
            total += scores[key]
        out[:] = F(0.0)
        for key in range(keys):
            add_times(out, floats(v + key * peek(table, Attention.V + 3))[:size], scores[key] / total)
