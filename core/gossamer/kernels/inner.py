"""Inner products of pairs of image strips: the gradient to the values of the non-zeros."""

from enum import IntEnum, auto

from llvmlite import ir
from numba import types
from numba.core.types import int64, void

from gossamer.kernels.compiled import entry
from gossamer.kernels.simd import BYTES, INT32, INT64, LANES, VECTOR, Vectors, const, intrinsic
from gossamer.kernels.target import target
from gossamer.kernels.tiles import peek

LONGEST = 8 if target().registers == 32 else 4  # vectors of a strip that stay in registers


class Inner(IntEnum):
    """The columns of the table of a bound gradient; strides are in bytes."""

    X = 0
    GRADIENT = auto()  # to the output, zero between its rows
    GRADIENT_CHANNEL = auto()
    VECTORS = auto()
    STARTS = auto()  # int64 [output channels + 1]
    OFFSETS = auto()  # int32, for each non-zero in row-major order
    RESULT = auto()  # float32, likewise
    ADD = auto()  # whether to add to the result instead of replacing it


@intrinsic
def inner(_, vectors, x, offsets, gradient, start, stop, result, add):
    """For every k of start ≤ k < stop, result[k] becomes (or gains, where `add`) the inner product of two strips.

    Both are `vectors` vectors long; one begins at `gradient`, the other at x + offsets[k] (int32, in elements).
    """

    def emit(context, builder, signature, args):
        b, v = builder, Vectors(builder)
        vectors, x, offsets, gradient, start, stop, result, add = args
        after = b.append_basic_block("after")
        switch = b.switch(vectors, after)
        for count in range(1, LONGEST + 1):
            case = b.append_basic_block(f"inner{count}")
            switch.add_case(const(count), case)
            b.position_at_end(case)
            held = [v.load(v.at(gradient, i, BYTES)) for i in range(count)]

            def body(index, _, held=held):
                first = b.add(start, b.mul(index, const(LANES)))
                final = b.sub(stop, const(1))

                def one(lane):
                    k = b.add(first, const(lane))
                    k = b.select(b.icmp_signed("<", k, final), k, final)
                    pixel = v.at(x, b.sext(v.load(v.at(offsets, k, 4), INT32), INT64), 4)
                    total = b.fmul(held[0], v.load(pixel))
                    for i in range(1, len(held)):
                        total = v.fma(held[i], v.load(v.at(pixel, i, BYTES)), total)
                    return total

                sums = v.tree(one, 0, LANES)
                mask, place = v.first(b.sub(stop, first)), v.at(result, first, 4)
                old = [ir.Constant(VECTOR, None)]
                old = v.either(b.icmp_signed("!=", add, const(0)), lambda: [v.masked(place, mask)], lambda: old)
                v.store(b.fadd(sums, old[0]), place, mask)
                return []

            many = b.sdiv(b.add(b.sub(stop, start), const(LANES - 1)), const(LANES))
            v.loop(const(0), many, [], body)
            b.branch(after)
        b.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 8), emit


X, GRADIENT, GRADIENT_CHANNEL, VECTORS, STARTS, OFFSETS, RESULT, ADD = (int(column) for column in Inner)


@entry(void(int64, int64, int64))
def products(table, first, last):
    """The gradients to the non-zeros of output channels first … last-1."""
    vectors = peek(table, VECTORS)
    pieces = (vectors + LONGEST - 1) // LONGEST
    for channel in range(first, last):
        start, stop = peek(peek(table, STARTS), channel), peek(peek(table, STARTS), channel + 1)
        gradient = peek(table, GRADIENT) + channel * peek(table, GRADIENT_CHANNEL)
        done = 0
        for piece in range(pieces):
            some = (vectors - done + pieces - piece - 1) // (pieces - piece)
            add = 1 if piece else peek(table, ADD)
            x = peek(table, X) + done * BYTES
            inner(some, x, peek(table, OFFSETS), gradient + done * BYTES, start, stop, peek(table, RESULT), add)
            done += some
