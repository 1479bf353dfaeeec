"""Copies between an image and its phases: rows and columns taken apart by a stride, and put together again."""

from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.types import int64, void

from gossamer.kernels.compiled import CFunction, c_function
from gossamer.kernels.geometry import Axis
from gossamer.kernels.memory import float32_at, floats, peek, poke
from gossamer.kernels.simd import BYTES, LANES, Vectors, const, intrinsic
from gossamer.kernels.tasks import Task


class CopyTable(IntEnum):
    """The columns of a table that describes images and their phases; strides are in bytes."""

    IMAGE = 0
    IMAGE_IMAGE = auto()
    IMAGE_CHANNEL = auto()
    IMAGE_ROW = auto()
    HEIGHT = auto()
    WIDTH = auto()
    PHASES = auto()
    PHASES_IMAGE = auto()
    PHASES_IMAGES = auto()  # how many there are; those of further images take their places anew
    PHASES_CHANNEL = auto()
    PHASES_PLANE = auto()
    PHASES_ROW = auto()
    CHANNELS = auto()
    STRIDE = auto()  # of rows
    STEP = auto()  # of columns
    ROWS = auto()  # how many phases of rows there are
    COLUMNS = auto()  # how many phases of columns there are
    FIRST = auto()  # the first row of each phase of rows, then the first column of each phase of columns


Masks = tuple[ir.Value, ir.Value]
"""The masks of a vector of floats that lie side by side, and of the vector of every other one."""


def _pairs(join: bool, both: bool = True) -> Any:
    @intrinsic
    def pairs(_: Any, whole: Any, even: Any, odd: Any, count: Any) -> Any:
        """Take `count` floats apart, or put them together: those of even index and, if `both`, those of odd index."""

        def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
            v, b = Vectors(builder), builder
            whole, even, odd, count = args
            steps = const(2 * LANES)

            def move(place: ir.Value, index: ir.Value, one: Masks, other: Masks) -> None:
                if join:
                    a, c = (v.masked(v.at(p, index, BYTES), m) for p, m in ((even, one[1]), (odd, other[1])))
                    first = [lane // 2 + (lane % 2) * LANES for lane in range(LANES)]
                    v.store(v.shuffle(a, c, first), place, one[0])
                    v.store(v.shuffle(a, c, [lane + LANES // 2 for lane in first]), v.at(place, 1, BYTES), other[0])
                else:
                    a, c = v.masked(place, one[0]), v.masked(v.at(place, 1, BYTES), other[0])
                    v.store(v.shuffle(a, c, range(0, 2 * LANES, 2)), v.at(even, index, BYTES), one[1])
                    if both:
                        v.store(v.shuffle(a, c, range(1, 2 * LANES, 2)), v.at(odd, index, BYTES), other[1])

            every = v.first(const(LANES))
            full = b.sdiv(count, steps)

            def body(index: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                move(v.at(whole, index, 2 * BYTES), index, (every, every), (every, every))
                return []

            v.loop(const(0), full, [], body)
            rest = b.sub(count, b.mul(full, steps))

            def tail() -> list[ir.Value]:
                evens, odds = b.sdiv(b.add(rest, const(1)), const(2)), b.sdiv(rest, const(2))
                one, other = v.first(rest), v.first(b.sub(rest, const(LANES)))
                move(v.at(whole, full, 2 * BYTES), full, (one, v.first(evens)), (other, v.first(odds)))
                return []

            v.either(b.icmp_signed(">", rest, const(0)), tail, list)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), emit

    return pairs


take_apart, take_even, put_together = _pairs(False), _pairs(False, both=False), _pairs(True)


@intrinsic
def copy(_: Any, source: Any, target: Any, count: Any) -> Any:
    """Copy `count` floats."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        v, b = Vectors(builder), builder
        source, target, count = args
        full = b.sdiv(count, const(LANES))

        def body(index: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            v.store(v.load(v.at(source, index, BYTES)), v.at(target, index, BYTES))
            return []

        v.loop(const(0), full, [], body)
        mask = v.first(b.sub(count, b.mul(full, const(LANES))))
        v.store(v.masked(v.at(source, full, BYTES), mask), v.at(target, full, BYTES), mask)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@njit
def line(whole: int, part: int, step: int, count: int, apart: bool) -> None:
    """Copy `count` floats between a row, where they lie `step` apart, and a row of a phase."""
    for index in range(count):
        if apart:
            poke(part + 4 * index, float32_at(whole, index * step))
        else:
            poke(whole + 4 * index * step, float32_at(part, index))


@njit
def rows(table: int, item: int, apart: bool) -> None:
    """Copy one channel of an image to its phases (`apart`) or back, zeros to pixels that are in no phase."""
    n, channel = item // peek(table, CopyTable.CHANNELS), item % peek(table, CopyTable.CHANNELS)
    step, columns, width = peek(table, CopyTable.STEP), peek(table, CopyTable.COLUMNS), peek(table, CopyTable.WIDTH)
    image = peek(table, CopyTable.IMAGE) + n * peek(table, CopyTable.IMAGE_IMAGE)
    image += channel * peek(table, CopyTable.IMAGE_CHANNEL)
    phases = peek(table, CopyTable.PHASES)
    phases += n % peek(table, CopyTable.PHASES_IMAGES) * peek(table, CopyTable.PHASES_IMAGE)
    phases += channel * peek(table, CopyTable.PHASES_CHANNEL)
    plane = peek(table, CopyTable.PHASES_PLANE)
    if not apart and peek(table, CopyTable.ROWS) * columns < peek(table, CopyTable.STRIDE) * step:
        for row in range(peek(table, CopyTable.HEIGHT)):
            floats(image + row * peek(table, CopyTable.IMAGE_ROW))[:width] = 0
    for k in range(peek(table, CopyTable.ROWS)):
        row, target = peek(table, CopyTable.FIRST + k), phases + k * columns * plane
        while row < peek(table, CopyTable.HEIGHT):
            whole = image + row * peek(table, CopyTable.IMAGE_ROW)
            if step == 1 and apart:
                copy(whole, target, width)
            elif step == 1:
                copy(target, whole, width)
            elif step == 2 and columns == 2 and apart:
                take_apart(whole, target, target + plane, width)
            elif step == 2 and columns == 2:
                put_together(whole, target, target + plane, width)
            elif step == 2 and apart:
                column = peek(table, CopyTable.FIRST + peek(table, CopyTable.ROWS))
                take_even(whole + 4 * column, target, 0, width - column)
            else:
                for m in range(columns):
                    column = peek(table, CopyTable.FIRST + peek(table, CopyTable.ROWS) + m)
                    line(whole + 4 * column, target + m * plane, step, (width - column + step - 1) // step, apart)
            row += peek(table, CopyTable.STRIDE)
            target += peek(table, CopyTable.PHASES_ROW)


@c_function(void(int64, int64, int64, int64))
def split(table: int, worker: int, first: int, end: int) -> None:
    """Copy images to their phases; an item is a channel of an image."""
    for item in range(first, end):
        rows(table, item, True)


@c_function(void(int64, int64, int64, int64))
def merge(table: int, worker: int, first: int, end: int) -> None:
    """Copy images from their phases; an item is a channel of an image."""
    for item in range(first, end):
        rows(table, item, False)


def _copies(function: CFunction, rows: Axis, columns: Axis, images: np.ndarray, phases: np.ndarray) -> Task:
    count = len(rows.phases) * len(columns.phases)
    table = np.zeros(CopyTable.FIRST + len(rows.phases) + len(columns.phases), np.int64)
    table[CopyTable.IMAGE : CopyTable.HEIGHT] = images.ctypes.data, *images.strides[:3]
    table[CopyTable.HEIGHT : CopyTable.PHASES] = rows.size, columns.size
    table[CopyTable.PHASES : CopyTable.PHASES_CHANNEL] = phases.ctypes.data, phases.strides[0], len(phases)
    table[CopyTable.PHASES_CHANNEL : CopyTable.CHANNELS] = count * phases.strides[1], *phases.strides[1:3]
    table[CopyTable.CHANNELS : CopyTable.ROWS] = images.shape[1], rows.stride, columns.stride
    table[CopyTable.ROWS : CopyTable.FIRST] = len(rows.phases), len(columns.phases)
    table[CopyTable.FIRST :] = *rows.phases, *columns.phases
    return Task(function, table, len(images) * images.shape[1], keep=(images, phases))


def splitting(rows: Axis, columns: Axis, images: np.ndarray, phases: np.ndarray) -> Task:
    """The task that copies images (N, C, H, W), rows contiguous, to phases (M, C · phases, H / s, W / s).

    Image n goes to place n mod M.
    """
    return _copies(split, rows, columns, images, phases)


def merging(rows: Axis, columns: Axis, images: np.ndarray, phases: np.ndarray) -> Task:
    """The task that copies images from their phases, zeros for pixels that have none."""
    return _copies(merge, rows, columns, images, phases)


def plain(image: np.ndarray) -> tuple[Axis, Axis]:
    """The two directions along which an image has one phase, itself."""
    return Axis(image.shape[-2], 1, 1, 0, 1), Axis(image.shape[-1], 1, 1, 0, 1)
