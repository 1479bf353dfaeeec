"""Loops of training: the gradient to the values of the non-zeros, and what goes with values that change."""

from collections.abc import Sequence
from enum import IntEnum, auto
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.image_loops import F, fast
from gossamer.kernels.memory import floats, int32s, peek
from gossamer.kernels.simd import BYTES, INT32, INT64, LANES, Vectors, const, intrinsic
from gossamer.kernels.target import target

LONGEST = 8 if target().registers == 32 else 4  # vectors of a strip that stay in registers


class Inner(IntEnum):
    """The columns of the table of a bound gradient to the values; strides are in bytes."""

    X = 0
    GRADIENT = auto()  # to the output, zero between its rows
    GRADIENT_CHANNEL = auto()
    VECTORS = auto()
    CHANNELS = auto()  # of the output
    STARTS = auto()  # int64 [output channels + 1]
    OFFSETS = auto()  # int32, for each non-zero in row-major order
    RESULT = auto()  # float32, likewise
    RESULT_SLOT = auto()
    PER_SLOT = auto()  # images that are summed in one slot


class Gather(IntEnum):
    """The columns of the table that brings new values to a section."""

    VALUES = 0
    SOURCE = auto()  # int32, the number of each value, COUNT where it is none
    TARGET = auto()
    COUNT = auto()
    RUN = auto()  # values that make an item
    SIZE = auto()  # values in all


class Slots(IntEnum):
    """The columns of the table of a sum over slots."""

    PARTS = 0
    SLOTS = auto()  # how many
    RESULT = auto()
    RUN = auto()  # floats that make an item
    SIZE = auto()  # floats in a slot


@intrinsic
def inner(_: Any, vectors: Any, x: Any, offsets: Any, gradient: Any, start: Any, stop: Any, result: Any) -> Any:
    """For every k of start ≤ k < stop, result[k] gains the inner product of two strips.

    Both are `vectors` vectors long; one begins at `gradient`, the other at x + offsets[k] (int32, in elements).
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        b, v = builder, Vectors(builder)
        vectors, x, offsets, gradient, start, stop, result = args
        after = b.append_basic_block("after")
        switch = b.switch(vectors, after)
        for count in range(1, LONGEST + 1):
            case = b.append_basic_block(f"inner{count}")
            switch.add_case(const(count), case)
            b.position_at_end(case)
            held = [v.load(v.at(gradient, i, BYTES)) for i in range(count)]

            def together(first: ir.Value, many: int, held: list[ir.Value] = held) -> list[ir.Value]:
                final = b.sub(stop, const(1))

                def one(lane: int) -> ir.Value:
                    k = b.add(first, const(lane))
                    k = b.select(b.icmp_signed("<", k, final), k, final)
                    pixel = v.at(x, b.sext(v.load(v.at(offsets, k, 4), INT32), INT64), 4)
                    total = b.fmul(held[0], v.load(pixel))
                    for i in range(1, len(held)):
                        total = v.fma(held[i], v.load(v.at(pixel, i, BYTES)), total)
                    return total

                left = b.sub(stop, first)
                mask = v.first(b.select(b.icmp_signed("<", left, const(many)), left, const(many)))
                place = v.at(result, first, 4)
                v.store(b.fadd(v.sums(one, many), v.masked(place, mask)), place, mask)
                return []

            full = b.sdiv(b.sub(stop, start), const(LANES))

            def whole(index: ir.Value, _: list[ir.Value], together: Any = together) -> list[ir.Value]:
                return together(b.add(start, b.mul(index, const(LANES))), LANES)

            v.loop(const(0), full, [], whole)
            rest = b.add(start, b.mul(full, const(LANES)))
            left = b.sub(stop, rest)
            many = LANES
            while many >= 4:  # the rest by the least power of two that holds it
                least = many // 2 if many > 4 else 0
                some = b.and_(b.icmp_signed("<=", left, const(many)), b.icmp_signed(">", left, const(least)))
                v.either(some, partial(together, rest, many), list)
                many //= 2
            b.branch(after)
        b.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), emit


@c_function(void(int64, int64, int64, int64))
def products(table: int, worker: int, first: int, end: int) -> None:
    """Add to the gradients to the non-zeros of output channels; an item is a channel of an image."""
    channels, vectors = peek(table, Inner.CHANNELS), peek(table, Inner.VECTORS)
    pieces = (vectors + LONGEST - 1) // LONGEST
    for item in range(first, end):
        image, channel = item // channels, item % channels
        starts = peek(table, Inner.STARTS)
        start, stop = peek(starts, channel), peek(starts, channel + 1)
        gradient = peek(table, Inner.GRADIENT) + channel * peek(table, Inner.GRADIENT_CHANNEL)
        result = peek(table, Inner.RESULT) + image // peek(table, Inner.PER_SLOT) * peek(table, Inner.RESULT_SLOT)
        done = 0
        for piece in range(pieces):
            some = (vectors - done + pieces - piece - 1) // (pieces - piece)
            x = peek(table, Inner.X) + done * BYTES
            inner(some, x, peek(table, Inner.OFFSETS), gradient + done * BYTES, start, stop, result)
            done += some


@fast
def _gather(values: np.ndarray, source: np.ndarray, count: int, result: np.ndarray, first: int, end: int) -> None:
    for k in range(first, end):
        value = values[min(source[k], count - 1)]
        result[k] = value if source[k] < count else F(0.0)


@c_function(void(int64, int64, int64, int64))
def gather(table: int, worker: int, first: int, end: int) -> None:
    """Bring new values to a section of a packed weight; an item is RUN of them."""
    source, result = int32s(peek(table, Gather.SOURCE)), floats(peek(table, Gather.TARGET))
    values, run = floats(peek(table, Gather.VALUES)), peek(table, Gather.RUN)
    _gather(values, source, peek(table, Gather.COUNT), result, first * run, min(end * run, peek(table, Gather.SIZE)))


@fast
def _sum_slots(parts: np.ndarray, slots: int, size: int, result: np.ndarray, first: int, end: int) -> None:
    for k in range(first, end):
        total = parts[k]
        for slot in range(1, slots):
            total += parts[slot * size + k]
        result[k] = total


@c_function(void(int64, int64, int64, int64))
def sum_slots(table: int, worker: int, first: int, end: int) -> None:
    """The sum over slots, in their order; an item is RUN floats."""
    parts, result = floats(peek(table, Slots.PARTS)), floats(peek(table, Slots.RESULT))
    run, size = peek(table, Slots.RUN), peek(table, Slots.SIZE)
    _sum_slots(parts, peek(table, Slots.SLOTS), size, result, first * run, min(end * run, size))


@c_function(void(int64, int64, int64, int64))
def clear_slots(table: int, worker: int, first: int, end: int) -> None:
    """Set RUN floats of every slot to zero for each item."""
    run, size = peek(table, Slots.RUN), peek(table, Slots.SIZE)
    for slot in range(peek(table, Slots.SLOTS)):
        floats(peek(table, Slots.PARTS) + 4 * slot * size)[first * run : min(end * run, size)] = F(0.0)
