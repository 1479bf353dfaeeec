"""The inner loops of a matrix-vector product and of a transposition."""

import functools

from llvmlite import ir
from numba import types

from gossamer.kernels.simd import BYTES, INT16, LANES, MASK, VECTOR, Vectors, const, intrinsic
from gossamer.kernels.tiles import SIZES

POSITIONS = ir.VectorType(INT16, LANES)
AHEAD = 24  # vectors of entries that are on their way from memory while others are multiplied


@intrinsic
def dot(_, size, x, positions, values, start, stop, sums):
    """Add the products of `size` rows with x to `sums`, whole vectors, over the entries start … stop-1.

    An entry is a position in x (uint16) and a value for each row.
    """

    def emit(context, builder, signature, args):
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


def _dot(b, rows, x, positions, values, start, stop, sums):
    """Take LANES entries at a time: their values are `rows` vectors, all rows of one entry before the next."""
    v, zero = Vectors(b), ir.Constant(VECTOR, None)
    full = b.sdiv(b.sub(stop, start), const(LANES))

    def add(first, totals, masks, every):
        inputs = v.gather(x, v.masked(v.at(positions, first, 2), every, POSITIONS), every)
        place, result = v.at(values, first, 4 * rows), []
        for r, total in enumerate(totals):
            spread = v.shuffle(inputs, inputs, [(r * LANES + lane) // rows for lane in range(LANES)])
            result.append(v.fma(v.masked(v.at(place, r, BYTES), masks[r]), spread, total))
        return result

    every = ir.Constant(MASK, [1] * LANES)

    def body(index, totals):
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
def clear(_, sums):
    """Set the sums of a group to zero."""

    def emit(context, builder, signature, args):
        v = Vectors(builder)
        for k in range(max(1, max(SIZES) // LANES)):
            v.store(ir.Constant(VECTOR, None), v.at(args[0], k, BYTES))
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def square(_, source, pitch, target, target_pitch):
    """Transpose LANES × LANES floats; the pitches are bytes from row to row."""

    def emit(context, builder, signature, args):
        v = Vectors(builder)
        source, pitch, target, target_pitch = args
        rows = [v.load(builder.add(source, builder.mul(const(i), pitch))) for i in range(LANES)]
        for i, column in enumerate(v.transpose(rows)):
            v.store(column, builder.add(target, builder.mul(const(i), target_pitch)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@intrinsic
def poke(_, address, value):
    """Store a float32 at an address."""

    def emit(context, builder, signature, args):
        Vectors(builder).store(args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), emit
