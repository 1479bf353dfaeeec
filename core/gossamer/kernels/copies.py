"""Copies between an image and its phases: rows and columns taken apart by a stride, and put together again."""

from collections.abc import Callable
from enum import IntEnum, auto

import numpy as np
from numba import njit, types
from numba.core.types import int64, void

from gossamer.kernels.compiled import entry
from gossamer.kernels.geometry import Axis
from gossamer.kernels.rows import poke
from gossamer.kernels.simd import BYTES, LANES, Vectors, const, intrinsic
from gossamer.kernels.threads import spread
from gossamer.kernels.tiles import float32_at, peek


class Copy(IntEnum):
    """The columns of a table that describes an image and its phases; strides are in bytes."""

    IMAGE_CHANNEL = 0
    IMAGE_ROW = auto()
    HEIGHT = auto()
    WIDTH = auto()
    PHASES_CHANNEL = auto()
    PHASES_PLANE = auto()
    PHASES_ROW = auto()
    STRIDE = auto()  # of rows
    STEP = auto()  # of columns
    ROWS = auto()  # how many phases of rows there are
    COLUMNS = auto()  # how many phases of columns there are
    FIRST = auto()  # the first row of each phase of rows, then the first column of each phase of columns


IMAGE_CHANNEL, IMAGE_ROW, HEIGHT, WIDTH, PHASES_CHANNEL, PHASES_PLANE, PHASES_ROW = (int(Copy(k)) for k in range(7))
STRIDE, STEP, ROWS, COLUMNS, FIRST = (int(Copy(k)) for k in range(7, 12))


def table(rows: Axis, columns: Axis, image: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """The table of copies between `image` (C, H, W) and `phases` (C · phases, H / stride, W / stride)."""
    count = len(rows.phases) * len(columns.phases)
    strides = (*image.strides[:2], rows.size, columns.size, count * phases.strides[0], *phases.strides[:2])
    counts = (rows.stride, columns.stride, len(rows.phases), len(columns.phases))
    return np.array([*strides, *counts, *rows.phases, *columns.phases], np.int64)


def _pairs(join: bool, both: bool = True):
    @intrinsic
    def pairs(_, whole, even, odd, count):
        """Take `count` floats apart, or put them together: those of even index and, if `both`, those of odd index."""

        def emit(context, builder, signature, args):
            v, b = Vectors(builder), builder
            whole, even, odd, count = args
            steps = const(2 * LANES)

            def move(place, index, one, other):
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

            def body(index, _):
                move(v.at(whole, index, 2 * BYTES), index, (every, every), (every, every))
                return []

            v.loop(const(0), full, [], body)
            rest = b.sub(count, b.mul(full, steps))

            def tail():
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
def copy(_, source, target, count):
    """Copy `count` floats."""

    def emit(context, builder, signature, args):
        v, b = Vectors(builder), builder
        source, target, count = args
        full = b.sdiv(count, const(LANES))

        def body(index, _):
            v.store(v.load(v.at(source, index, BYTES)), v.at(target, index, BYTES))
            return []

        v.loop(const(0), full, [], body)
        mask = v.first(b.sub(count, b.mul(full, const(LANES))))
        v.store(v.masked(v.at(source, full, BYTES), mask), v.at(target, full, BYTES), mask)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@njit
def line(whole, part, step, count, apart):
    """Copy `count` floats between a row, where they lie `step` apart, and a row of a phase."""
    for index in range(count):
        if apart:
            poke(part + 4 * index, float32_at(whole, index * step))
        else:
            poke(whole + 4 * index * step, float32_at(part, index))


@njit
def rows(table, image, phases, channel, apart):
    """Copy one channel to its phases (`apart`) or back."""
    step, columns, width = peek(table, STEP), peek(table, COLUMNS), peek(table, WIDTH)
    image += channel * peek(table, IMAGE_CHANNEL)
    phases += channel * peek(table, PHASES_CHANNEL)
    plane = peek(table, PHASES_PLANE)
    for k in range(peek(table, ROWS)):
        row, target = peek(table, FIRST + k), phases + k * columns * plane
        while row < peek(table, HEIGHT):
            whole = image + row * peek(table, IMAGE_ROW)
            if step == 1 and apart:
                copy(whole, target, width)
            elif step == 1:
                copy(target, whole, width)
            elif step == 2 and columns == 2 and apart:
                take_apart(whole, target, target + plane, width)
            elif step == 2 and columns == 2:
                put_together(whole, target, target + plane, width)
            elif step == 2 and apart:
                column = peek(table, FIRST + peek(table, ROWS))
                take_even(whole + 4 * column, target, 0, width - column)
            else:
                for m in range(columns):
                    column = peek(table, FIRST + peek(table, ROWS) + m)
                    line(whole + 4 * column, target + m * plane, step, (width - column + step - 1) // step, apart)
            row += peek(table, STRIDE)
            target += peek(table, PHASES_ROW)


@entry(void(int64, int64, int64, int64, int64))
def split(table, image, phases, first, last):
    """Copy the channels first … last-1 of an image to their phases."""
    for channel in range(first, last):
        rows(table, image, phases, channel, True)


@entry(void(int64, int64, int64, int64, int64))
def merge(table, image, phases, first, last):
    """Copy the channels first … last-1 of an image from their phases."""
    for channel in range(first, last):
        rows(table, image, phases, channel, False)


class Copies:
    """Copies between images like `image` (C, H, W), rows contiguous, and `phases` (C · phases, H / s, W / s)."""

    def __init__(self, rows: Axis, columns: Axis, image: np.ndarray, phases: np.ndarray, threads: int = 1):
        self.table, self.channels, self.threads = table(rows, columns, image, phases), len(image), threads
        self.phases = phases
        self.addresses = self.table.ctypes.data, phases.ctypes.data

    def split(self, image: np.ndarray):
        """Copy the image to the phases."""
        self.splitting(image)()

    def merge(self, image: np.ndarray):
        """Copy the phases to the image."""
        self.merging(image)()

    def splitting(self, image: np.ndarray) -> Callable[[], None]:
        """The call that copies what is in the image's memory then to the phases."""
        return self._bound(split.call, image)

    def merging(self, image: np.ndarray) -> Callable[[], None]:
        """The call that copies what is in the phases then to the image's memory."""
        return self._bound(merge.call, image)

    def _bound(self, program, image) -> Callable[[], None]:
        places = self.addresses[0], image.ctypes.data, self.addresses[1]

        def run(keep=self):
            if keep.threads == 1:
                program(*places, 0, keep.channels)
            else:
                spread(lambda _, first, last: program(*places, first, last), keep.channels, keep.threads)

        return run


def plain(image: np.ndarray) -> tuple[Axis, Axis]:
    """The two directions along which an image has one phase, itself."""
    return Axis(image.shape[-2], 1, 1, 0, 1), Axis(image.shape[-1], 1, 1, 0, 1)
