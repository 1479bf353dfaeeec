"""The drivers of matrix-vector products and transpositions."""

from enum import IntEnum, auto

from numba import njit
from numba.core.types import int64, void

from gossamer.kernels.compiled import entry
from gossamer.kernels.functions import activate
from gossamer.kernels.rows import clear, dot, poke, square
from gossamer.kernels.simd import LANES
from gossamer.kernels.tiles import Section, float32_at, peek, peek_float, peek_int32


class Product(IntEnum):
    """The columns of the plan of a bound matrix-vector product."""

    X = 0
    OUT = auto()
    RESIDUAL = auto()  # 0 if there is none
    BLOCKS = auto()  # of inputs
    FIRST = auto()  # int32, the first input of each block
    LOW = auto()  # float32
    HIGH = auto()  # float32
    ACTIVATION = auto()  # as numbered in ACTIVATIONS
    SLOPE = auto()  # float32
    MASK = auto()  # one bit for one row


X, OUT, RESIDUAL, BLOCKS, FIRST, LOW, HIGH, ACTIVATION, SLOPE, MASK = (int(column) for column in Product)
SIZE, GROUPS, LANE, BIAS = int(Section.SIZE), int(Section.GROUPS), int(Section.LANES), int(Section.BIAS)
STARTS, POSITIONS, VALUES = int(Section.STARTS), int(Section.POSITIONS), int(Section.VALUES)


@entry(void(int64, int64, int64, int64, int64))
def products(plan, section, sums, first, last):
    """The groups first … last-1 of a section of a matrix-vector product; `sums` has room for a group."""
    size = peek(section, SIZE)
    for group in range(first, last):
        clear(sums)  # all memory traffic of sums is in whole vectors, which the processor forwards from store to load
        for block in range(peek(plan, BLOCKS)):
            starts = peek(section, STARTS) + 4 * block * (peek(section, GROUPS) + 1)
            start, stop = peek_int32(starts, group), peek_int32(starts, group + 1)
            x = peek(plan, X) + 4 * peek_int32(peek(plan, FIRST), block)
            dot(size, x, peek(section, POSITIONS), peek(section, VALUES), start, stop, sums)
        for r in range(size):
            lane = group * size + r
            value = float32_at(sums, r) + float32_at(peek(section, BIAS), lane)
            store(plan, peek_int32(peek(section, LANE), lane), value)


@njit
def store(plan, lane, value):
    """Add the residual, apply the activation and store one output."""
    if peek(plan, RESIDUAL):
        value += float32_at(peek(plan, RESIDUAL), lane)
    place = peek(plan, OUT) + lane * 4
    poke(place, min(max(value, peek_float(plan, LOW)), peek_float(plan, HIGH)))
    if peek(plan, ACTIVATION):
        activate(peek(plan, ACTIVATION), peek_float(plan, SLOPE), place, peek(plan, MASK), 0, 1)


@entry(void(int64, int64, int64, int64, int64, int64))
def transpose(source, pitch, target, target_pitch, rows, columns):
    """Copy rows × columns floats to columns × rows; the pitches are bytes from row to row."""
    if target_pitch > pitch:  # walk along the rows that lie farther apart
        for j in range(0, columns, LANES):
            for i in range(0, rows, LANES):
                corner(source, pitch, target, target_pitch, rows, columns, i, j)
    else:
        for i in range(0, rows, LANES):
            for j in range(0, columns, LANES):
                corner(source, pitch, target, target_pitch, rows, columns, i, j)


@njit
def corner(source, pitch, target, target_pitch, rows, columns, i, j):
    """Transpose the square at row i and column j, or what there is of it."""
    if i + LANES <= rows and j + LANES <= columns:
        square(source + i * pitch + j * 4, pitch, target + j * target_pitch + i * 4, target_pitch)
    else:
        for k in range(i, min(i + LANES, rows)):
            for m in range(j, min(j + LANES, columns)):
                poke(target + m * target_pitch + k * 4, float32_at(source + k * pitch, m))
