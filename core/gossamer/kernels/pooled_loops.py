"""Rows of windows of two by two pixels: ReLU and max pooling of a · x + b, and its gradient, without an image between.

Where windows have several largest pixels, the gradient goes to the first of them in row-major order, as PyTorch's does.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from gossamer.kernels.simd import BYTES, FLOAT, LANES, VECTOR, Vectors, const, intrinsic

ZERO = ir.Constant(VECTOR, [ir.Constant(FLOAT, 0.0)] * LANES)
EVEN, ODD = range(0, 2 * LANES, 2), range(1, 2 * LANES, 2)
NEAR = [lane // 2 + lane % 2 * LANES for lane in range(LANES)]
FAR = [lane + LANES // 2 for lane in NEAR]


class _Windows:
    """LANES windows: their pixels, which of them are largest under a · x + b, and that value."""

    def __init__(self, v: Vectors, rows: Sequence[ir.Value], index: ir.Value, left: ir.Value, a: ir.Value, b: ir.Value):
        self.v, builder = v, v.builder
        self.place = builder.mul(index, const(2 * BYTES))
        twice = builder.mul(left, const(2))
        self.has, self.masks = v.first(left), (v.first(twice), v.first(builder.sub(twice, const(LANES))))
        self.pixels: list[ir.Value] = []
        for row in rows:
            near, far = (v.masked(v.at(self.at(row), k, BYTES), mask) for k, mask in enumerate(self.masks))
            self.pixels += [v.shuffle(near, far, EVEN), v.shuffle(near, far, ODD)]
        values = [v.fma(a, x, b) for x in self.pixels]
        right = [self.greater(values[k + 1], values[k]) for k in (0, 2)]
        best = [builder.select(right[k], values[2 * k + 1], values[2 * k]) for k in (0, 1)]
        lower = self.greater(best[1], best[0])
        self.largest = builder.select(lower, best[1], best[0])
        upper = builder.not_(lower)
        self.chosen = [
            builder.and_(row, column)
            for row, column in (
                (upper, builder.not_(right[0])),
                (upper, right[0]),
                (lower, builder.not_(right[1])),
                (lower, right[1]),
            )
        ]

    def greater(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.v.builder.fcmp_ordered(">", x, y)

    def at(self, row: ir.Value) -> ir.Value:
        """Where these windows' pixels begin in a row."""
        return self.v.builder.add(row, self.place)

    def passed(self, gradient: ir.Value) -> ir.Value:
        """The gradient to the windows' results where it passes the ReLU, else 0."""
        return self.v.builder.select(self.greater(self.largest, ZERO), gradient, ZERO)

    def store(self, values: Sequence[ir.Value], rows: Sequence[ir.Value]) -> None:
        """Store a value for each pixel."""
        for row, even, odd in zip(rows, values[::2], values[1::2], strict=True):
            for half, (order, mask) in enumerate(zip((NEAR, FAR), self.masks, strict=True)):
                self.v.store(self.v.shuffle(even, odd, order), self.v.at(self.at(row), half, BYTES), mask)


def _each(
    v: Vectors, rows: Sequence[ir.Value], count: ir.Value, a: ir.Value, b: ir.Value, state: Any, body: Any
) -> Any:
    """Fold body(windows, their first, state) over `count` windows of two rows."""
    builder, (a, b) = v.builder, (v.splat(a), v.splat(b))

    def turn(index: ir.Value, state: list[ir.Value]) -> list[ir.Value]:
        first = builder.mul(index, const(LANES))
        return body(_Windows(v, rows, index, builder.sub(count, first), a, b), index, state)

    return v.loop(const(0), builder.sdiv(builder.add(count, const(LANES - 1)), const(LANES)), state, turn)


@intrinsic
def pool(_: Any, upper: Any, lower: Any, out: Any, count: Any, a: Any, b: Any) -> Any:
    """Set `count` floats to the ReLU of the largest a · x + b of two by two pixels each."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v, (upper, lower, out, count, a, b) = Vectors(builder), args

        def body(windows: _Windows, index: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            largest = builder.select(windows.greater(ZERO, windows.largest), ZERO, windows.largest)
            v.store(largest, v.at(out, index, BYTES), windows.has)
            return []

        _each(v, (upper, lower), count, a, b, [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, *[types.float32] * 2), emit


@intrinsic
def pool_products(
    _: Any, upper: Any, lower: Any, gradient: Any, count: Any, a: Any, b: Any, mean: Any, sums: Any
) -> Any:
    """Add, in each lane, the gradients to two by two pixels to one vector at `sums`, times x - mean to the next."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v, (upper, lower, gradient, count, a, b, mean, sums) = Vectors(builder), args
        mean = v.splat(mean)

        def body(windows: _Windows, index: ir.Value, state: list[ir.Value]) -> list[ir.Value]:
            one = windows.passed(v.masked(v.at(gradient, index, BYTES), windows.has))
            x = windows.pixels[0]
            for chosen, pixel in zip(windows.chosen[1:], windows.pixels[1:], strict=True):
                x = builder.select(chosen, pixel, x)
            return [builder.fadd(state[0], one), v.fma(one, builder.fsub(x, mean), state[1])]

        places = sums, v.at(sums, 1, BYTES)
        found = _each(v, (upper, lower), count, a, b, [v.load(place) for place in places], body)
        for place, value in zip(places, found, strict=True):
            v.store(value, place)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, *[types.float32] * 3, types.int64), emit


@intrinsic
def pool_gradient(
    _: Any,
    upper: Any,
    lower: Any,
    gradient: Any,
    upper_out: Any,
    lower_out: Any,
    count: Any,
    a: Any,
    b: Any,
    by_g: Any,
    by_x: Any,
    shift: Any,
) -> Any:
    """Set two rows to the gradient that comes to each pixel · by_g + x · by_x + shift."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v, (upper, lower, gradient, upper_out, lower_out, count, a, b, *factors) = Vectors(builder), args
        by_g, by_x, shift = map(v.splat, factors)

        def body(windows: _Windows, index: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            one = builder.fmul(windows.passed(v.masked(v.at(gradient, index, BYTES), windows.has)), by_g)
            results = []
            for chosen, x in zip(windows.chosen, windows.pixels, strict=True):
                results.append(builder.fadd(builder.select(chosen, one, ZERO), v.fma(x, by_x, shift)))
            windows.store(results, (upper_out, lower_out))
            return []

        _each(v, (upper, lower), count, a, b, [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6, *[types.float32] * 5), emit
