"""The inner loops of a matrix-vector product and of a transposition, in registers."""

import functools
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from gossamer.kernels.simd import BYTES, INT16, LANES, MASK, VECTOR, Vectors, const, intrinsic
from gossamer.kernels.tiles import SIZES

POSITIONS = ir.VectorType(INT16, LANES)
AHEAD = 24  # vectors of entries on their way from memory while others are used; from `core/benchmarks/tuning.py`


@intrinsic
def dot(_: Any, size: Any, x: Any, positions: Any, values: Any, start: Any, stop: Any, sums: Any) -> Any:
    """Add the products of `size` rows with x to `sums`, whole vectors, over the entries start … stop-1.

    An entry is a position in x (uint16) and a value for each row.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        size, *rest = args
        after = builder.append_basic_block("after")
        switch = builder.switch(size, after)
        for rows in SIZES:
            case = builder.append_basic_block(f"dot{rows}")
            switch.add_case(const(rows), case)
            builder.position_at_end(case)
            _dot(builder, rows, *rest)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), emit


def _dot(b: Any, rows: int, *operands: ir.Value) -> None:
    """Take LANES entries at a time: their values are `rows` vectors, all rows of one entry before the next."""
    x, positions, values, start, stop, sums = operands
    v, zero = Vectors(b), ir.Constant(VECTOR, None)
    full = b.sdiv(b.sub(stop, start), const(LANES))

    def add(first: ir.Value, totals: list[ir.Value], masks: Sequence[ir.Value], every: ir.Value) -> list[ir.Value]:
        inputs = v.gather(x, v.masked(v.at(positions, first, 2), every, POSITIONS), every)
        place, result = v.at(values, first, 4 * rows), []
        for r, total in enumerate(totals):
            spread = v.shuffle(inputs, inputs, [(r * LANES + lane) // rows for lane in range(LANES)])
            result.append(v.fma(v.masked(v.at(place, r, BYTES), masks[r]), spread, total))
        return result

    every = ir.Constant(MASK, [1] * LANES)

    def body(index: ir.Value, totals: list[ir.Value]) -> list[ir.Value]:
        first = b.add(start, b.mul(index, const(LANES)))
        for r in range(rows):
            v.prefetch(v.at(v.at(values, first, 4 * rows), AHEAD * rows + r, BYTES))
        v.prefetch(v.at(v.at(positions, first, 2), AHEAD, 2 * LANES))
        return add(first, totals, [every] * rows, every)

    totals = v.loop(const(0), full, [zero] * rows, body)
    first = b.add(start, b.mul(full, const(LANES)))
    rest = b.sub(stop, first)
    masks = [v.first(b.sub(b.mul(rest, const(rows)), const(r * LANES))) for r in range(rows)]
    totals = add(first, totals, masks, v.first(rest))
    apart = max(1, rows // LANES)  # vectors that hold one entry
    for k in range(apart):
        total = functools.reduce(b.fadd, totals[k::apart])
        width = LANES
        while width > rows:
            width //= 2
            total = b.fadd(total, v.shuffle(total, total, [(lane + width) % LANES for lane in range(LANES)]))
        place = v.at(sums, k, BYTES)
        v.store(b.fadd(total, v.load(place)), place)


@intrinsic
def clear(_: Any, sums: Any) -> Any:
    """Set the sums of a group to zero."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v = Vectors(builder)
        for k in range(max(1, max(SIZES) // LANES)):
            v.store(ir.Constant(VECTOR, None), v.at(args[0], k, BYTES))
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def square(_: Any, source: Any, pitch: Any, target: Any, target_pitch: Any) -> Any:
    """Transpose LANES × LANES floats; the pitches are bytes from row to row."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v = Vectors(builder)
        source, pitch, target, target_pitch = args
        rows = [v.load(builder.add(source, builder.mul(const(i), pitch))) for i in range(LANES)]
        for i, column in enumerate(v.transpose(rows)):
            v.store(column, builder.add(target, builder.mul(const(i), target_pitch)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit
