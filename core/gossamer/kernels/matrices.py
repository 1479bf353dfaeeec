"""The drivers of matrix-vector products and transpositions."""

from enum import IntEnum, auto

from numba import njit
from numba.core.types import int64, void

from gossamer.kernels.compiled import entry
from gossamer.kernels.functions import activate
from gossamer.kernels.rows import dot, poke, square
from gossamer.kernels.simd import LANES
from gossamer.kernels.tiles import float32_at, peek, peek_float, peek_int32


class Product(IntEnum):
    """The columns of one section of a bound matrix-vector product."""

    SIZE = 0
    WIDTH = auto()  # bytes of an index
    X = auto()
    OUT = auto()
    RESIDUAL = auto()  # 0 if there is none
    LANES = auto()  # int32, the rows in the order of the groups
    BIAS = auto()  # float32, in that order
    STARTS = auto()  # int64 [groups + 1], in vectors of entries
    INDICES = auto()
    VALUES = auto()
    SUMS = auto()  # float32, room for the sums of a group for each worker, 8 apart
    LOW = auto()  # float32
    HIGH = auto()  # float32
    ACTIVATION = auto()
    SLOPE = auto()  # float32
    MASK = auto()  # one bit for one row


SIZE, WIDTH, X, OUT, RESIDUAL, LANE = (int(Product(k)) for k in range(6))
BIAS, STARTS, INDICES, VALUES, SUMS, LOW, HIGH, ACTIVATION, SLOPE, MASK = (int(Product(k)) for k in range(6, 16))


@entry(void(int64, int64, int64, int64))
def products(table, worker, first, last):
    """The groups first … last-1 of a section of a matrix-vector product."""
    size, width = peek(table, SIZE), peek(table, WIDTH)
    sums = peek(table, SUMS) + worker * 64
    low, high = peek_float(table, LOW), peek_float(table, HIGH)
    for group in range(first, last):
        start = peek(peek(table, STARTS), group)
        count = peek(peek(table, STARTS), group + 1) - start
        indices = peek(table, INDICES) + start * width * LANES
        values = peek(table, VALUES) + start * size * LANES * 4
        dot(size, width, peek(table, X), indices, values, count, sums)
        for r in range(size):
            lane = peek_int32(peek(table, LANE), group * size + r)
            value = float32_at(sums, r) + float32_at(peek(table, BIAS), group * size + r)
            if peek(table, RESIDUAL):
                value += float32_at(peek(table, RESIDUAL), lane)
            poke(peek(table, OUT) + lane * 4, min(max(value, low), high))
            if peek(table, ACTIVATION):
                place = peek(table, OUT) + lane * 4
                activate(peek(table, ACTIVATION), peek_float(table, SLOPE), place, peek(table, MASK), 0, 1)


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
