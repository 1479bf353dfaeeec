"""The loops of matrix-vector products and of transpositions."""

from enum import IntEnum, auto

from numba import njit
from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.functions import activate
from gossamer.kernels.memory import float32_at, peek, peek_float, peek_int32, poke
from gossamer.kernels.rows import clear, dot, square
from gossamer.kernels.simd import LANES
from gossamer.kernels.tiles import SectionTable

ROOM = 64  # bytes in which the sums of a group have their place


class ProductPlan(IntEnum):
    """The columns of the plan of a section of a bound matrix-vector product; strides are in bytes."""

    X = 0
    X_ROW = auto()
    OUT = auto()
    OUT_ROW = auto()
    RESIDUAL = auto()  # 0 if there is none
    RESIDUAL_ROW = auto()
    ROWS = auto()
    SECTION = auto()
    BLOCKS = auto()  # of inputs
    FIRST = auto()  # int32, the first input of each block
    SUMS = auto()  # each worker's ROOM
    LOW = auto()  # float32
    HIGH = auto()  # float32
    ACTIVATION = auto()  # as numbered in ACTIVATIONS, 0 for a clamp
    SLOPE = auto()  # float32
    MASK = auto()  # one bit for one row


class Transposition(IntEnum):
    """The columns of a transposition's table; strides are in bytes."""

    SOURCE = 0
    SOURCE_MATRIX = auto()
    SOURCE_ROW = auto()
    TARGET = auto()
    TARGET_MATRIX = auto()
    TARGET_ROW = auto()
    ROWS = auto()  # of the source
    COLUMNS = auto()
    STRIPS = auto()  # items of a matrix


@c_function(void(int64, int64, int64, int64))
def products(plan: int, worker: int, first: int, end: int) -> None:
    """The items first … end-1 of a section of a matrix-vector product; an item is a group with a row."""
    section, rows = peek(plan, ProductPlan.SECTION), peek(plan, ProductPlan.ROWS)
    size, sums = peek(section, SectionTable.SIZE), peek(plan, ProductPlan.SUMS) + worker * ROOM
    for item in range(first, end):
        group, row = item // rows, item % rows
        clear(sums)  # all memory traffic of sums is in whole vectors, which the processor forwards from store to load
        for block in range(peek(plan, ProductPlan.BLOCKS)):
            starts = peek(section, SectionTable.STARTS) + 4 * block * (peek(section, SectionTable.GROUPS) + 1)
            start, stop = peek_int32(starts, group), peek_int32(starts, group + 1)
            x = peek(plan, ProductPlan.X) + row * peek(plan, ProductPlan.X_ROW)
            x += 4 * peek_int32(peek(plan, ProductPlan.FIRST), block)
            positions, values = peek(section, SectionTable.POSITIONS), peek(section, SectionTable.VALUES)
            dot(size, x, positions, values, start, stop, sums)
        for r in range(size):
            lane = group * size + r
            value = float32_at(sums, r) + float32_at(peek(section, SectionTable.BIAS), lane)
            store(plan, row, peek_int32(peek(section, SectionTable.LANES), lane), value)


@njit
def store(plan: int, row: int, lane: int, value: float) -> None:
    """Add the residual, apply the activation and store one output."""
    if peek(plan, ProductPlan.RESIDUAL):
        value += float32_at(peek(plan, ProductPlan.RESIDUAL) + row * peek(plan, ProductPlan.RESIDUAL_ROW), lane)
    place = peek(plan, ProductPlan.OUT) + row * peek(plan, ProductPlan.OUT_ROW) + lane * 4
    poke(place, min(max(value, peek_float(plan, ProductPlan.LOW)), peek_float(plan, ProductPlan.HIGH)))
    kind = peek(plan, ProductPlan.ACTIVATION)
    if kind:
        activate(kind, peek_float(plan, ProductPlan.SLOPE), place, peek(plan, ProductPlan.MASK), 0, 1)


@c_function(void(int64, int64, int64, int64))
def transpose(table: int, worker: int, first: int, end: int) -> None:
    """The items first … end-1 of a transposition; an item is a strip along whichever rows lie farther apart."""
    rows, columns = peek(table, Transposition.ROWS), peek(table, Transposition.COLUMNS)
    pitch, target_pitch = peek(table, Transposition.SOURCE_ROW), peek(table, Transposition.TARGET_ROW)
    strips = peek(table, Transposition.STRIPS)
    for item in range(first, end):
        matrix, strip = item // strips, item % strips * LANES
        source = peek(table, Transposition.SOURCE) + matrix * peek(table, Transposition.SOURCE_MATRIX)
        target = peek(table, Transposition.TARGET) + matrix * peek(table, Transposition.TARGET_MATRIX)
        if target_pitch > pitch:
            for i in range(0, rows, LANES):
                corner(source, pitch, target, target_pitch, rows, columns, i, strip)
        else:
            for j in range(0, columns, LANES):
                corner(source, pitch, target, target_pitch, rows, columns, strip, j)


@njit
def corner(source: int, pitch: int, target: int, target_pitch: int, rows: int, columns: int, i: int, j: int) -> None:
    """Transpose the square at row i and column j, or what there is of it."""
    if i + LANES <= rows and j + LANES <= columns:
        square(source + i * pitch + j * 4, pitch, target + j * target_pitch + i * 4, target_pitch)
    else:
        for k in range(i, min(i + LANES, rows)):
            for m in range(j, min(j + LANES, columns)):
                poke(target + m * target_pitch + k * 4, float32_at(source + k * pitch, m))
