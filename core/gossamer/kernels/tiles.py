"""The kernels' inner loops: tiles of accumulators that stay in registers while a loop runs over non-zeros.

Operands are addresses (int64, in bytes) and counts. Plans and section tables are tables of int64 whose columns the
enumerations name; the loops in `strip_loops` walk over images and tiles, the code here does one tile.
"""

from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

from llvmlite import ir
from numba import types

from gossamer.kernels.simd import BYTES, FLOAT, INT16, INT32, INT64, Vectors, const, intrinsic
from gossamer.kernels.target import target

SIZES = (8, 4, 2, 1)  # how many output channels may form a group
WIDEST = 64  # more vectors than a tile has in any processor's registers


class StripPlan(IntEnum):
    """The columns of a bound convolution's plan; strides are in bytes.

    The plan is all that the machine code sees of a convolution:

        StripPlan ── CHUNKS ──> Chunk, Chunk, …  ── SECTION ──> SectionTable ──> channels, biases, starts, entries
            │                   (some groups of a section)
            ├── OFFSETS, FIRST: where the input positions of the entries lie in an image
            └── X, OUT, RESIDUAL, MASKS: the images, and which of the pixels in a row's pitch are to be stored
    """

    X = 0
    X_IMAGE = auto()
    OUT = auto()
    OUT_IMAGE = auto()
    OUT_CHANNEL = auto()
    RESIDUAL = auto()  # 0 if there is none
    RESIDUAL_IMAGE = auto()
    RESIDUAL_CHANNEL = auto()
    MASKS = auto()  # one bit for each pixel of a plane: whether it is to be stored
    VECTORS = auto()  # of pixels in a plane
    TILE = auto()  # vectors in the widest tile
    TILES = auto()  # in a plane
    BAND = auto()  # tiles, of one or more images, that are worked on together
    CHUNK_COUNT = auto()
    BLOCKS = auto()  # of input channels
    OFFSETS = auto()  # int32, in elements: from the output pixel to that of each input position
    FIRST = auto()  # int32, the first position of each block
    PART = auto()  # bytes from the inputs of one part to those of the next
    CHUNKS = auto()  # a table of `Chunk`
    LOW = auto()  # float32
    HIGH = auto()  # float32
    ACTIVATION = auto()  # as numbered in ACTIVATIONS
    SLOPE = auto()  # float32
    PARTIAL = auto()  # the first worker's room for the sums of a tile, before the last block
    PARTIAL_WORKER = auto()


class Chunk(IntEnum):
    """The columns of a piece of a section, whose weights stay near while tiles go by."""

    SECTION = 0  # the address of its table
    BEGIN = auto()  # its first group
    END = auto()  # the group after its last


class SectionTable(IntEnum):
    """The columns of a `packing.Section` in memory: groups of `SIZE` output channels each.

    Entry k of a group is POSITIONS[k], an input position counted from its block's first, and SIZE floats from
    VALUES[k · SIZE] on. STARTS[block][group] is the first entry of a group in a block of input channels; a block's
    entries lie one group after the other, and the blocks one after the other.
    """

    SIZE = 0
    GROUPS = auto()
    LANES = auto()  # int32, the channels in the order of the groups
    BIAS = auto()  # float32, in that order
    POSITION = auto()  # how many channels the sections before hold
    PARTS = auto()  # int32, the part of each group
    STARTS = auto()  # int32 [blocks][groups + 1]
    POSITIONS = auto()  # uint16
    VALUES = auto()  # float32, SIZE for each position


@intrinsic
def accumulate(
    _: Any,
    plan: Any,
    section: Any,
    vectors: Any,
    x: Any,
    out: Any,
    residual: Any,
    partial: Any,
    vector: Any,
    block: Any,
    begin: Any,
    end: Any,
) -> Any:
    """Compute the groups begin … end-1 of a section for `vectors` vectors of pixels, from vector `vector` on.

    x, out and residual are the addresses of that first pixel in channel 0. Before the last block of input channels the
    sums go to `partial` (TILE vectors for each channel); the last adds the residual, clamps and stores them.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        size = Vectors(builder).load(Vectors(builder).at(args[1], SectionTable.SIZE, 8), INT64, 8)
        after = builder.append_basic_block("after")
        key = builder.add(builder.mul(size, const(WIDEST)), args[2])
        switch = builder.switch(key, after)
        for channels in SIZES:
            for count in range(1, target().vectors(channels) + 1):
                case = builder.append_basic_block(f"tile{channels}x{count}")
                switch.add_case(const(channels * WIDEST + count), case)
                builder.position_at_end(case)
                _Tile(builder, channels, count, *args).emit()
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), emit


class _Tile:
    """The code for groups of `channels` channels and `count` vectors of pixels."""

    def __init__(self, builder: Any, channels: int, count: int, *operands: ir.Value):
        plan, section, _, x, out, residual, partial, vector, block, begin, end = operands
        self.v, self.b = Vectors(builder), builder
        self.channels, self.count = channels, count
        self.plan, self.section = plan, section
        self.x, self.out, self.residual, self.partial, self.vector = x, out, residual, partial, vector
        self.block, self.begin, self.end = block, begin, end

    def column(self, table: ir.Value, index: int, kind: ir.Type = INT64) -> ir.Value:
        return self.v.load(self.v.at(table, int(index), 8), kind, 8)

    def integer(self, table: ir.Value, index: ir.Value) -> ir.Value:
        return self.b.sext(self.v.load(self.v.at(table, index, 4), INT32), INT64)

    def emit(self) -> None:
        """The loop over groups."""
        b, v = self.b, self.v
        columns = (SectionTable.LANES, SectionTable.BIAS, SectionTable.PARTS)
        self.lanes, self.bias, self.parts = (self.column(self.section, column) for column in columns)
        self.positions = self.column(self.section, SectionTable.POSITIONS)
        self.values = self.column(self.section, SectionTable.VALUES)
        row = b.add(self.column(self.section, SectionTable.GROUPS), const(1))
        self.starts = v.at(self.column(self.section, SectionTable.STARTS), b.mul(self.block, row), 4)
        first = self.integer(self.column(self.plan, StripPlan.FIRST), self.block)
        self.offsets = v.at(self.column(self.plan, StripPlan.OFFSETS), first, 4)
        self.apart_parts = self.column(self.plan, StripPlan.PART)
        self.apart = b.mul(self.column(self.plan, StripPlan.TILE), const(BYTES))
        position = self.column(self.section, SectionTable.POSITION)
        self.partial = b.add(self.partial, b.mul(position, self.apart))
        self.first = b.icmp_signed("==", self.block, const(0))
        following = b.add(self.block, const(1))
        self.last = b.icmp_signed("==", following, self.column(self.plan, StripPlan.BLOCKS))
        v.loop(self.begin, self.end, [], self.group)

    def group(self, g: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
        """One group: start from the bias or the partial sums, add the products, store."""
        b, v = self.b, self.v
        position = b.mul(g, const(self.channels))
        partial = b.add(self.partial, b.mul(position, self.apart))
        sums = v.either(self.first, lambda: self.biases(position), lambda: self.partials(partial))
        start, stop = self.integer(self.starts, g), self.integer(self.starts, b.add(g, const(1)))
        self.inputs = b.add(self.x, b.mul(self.integer(self.parts, g), self.apart_parts))
        sums = v.loop(start, stop, sums, self.product)
        v.either(self.last, lambda: self.finish(position, sums), lambda: self.keep(partial, sums))
        return []

    def biases(self, position: ir.Value) -> list[ir.Value]:
        """Every channel's bias in all its vectors."""
        address = self.v.at(self.bias, position, 4)
        biases = [self.v.splat(self.v.load(self.v.at(address, c, 4), FLOAT)) for c in range(self.channels)]
        return [bias for bias in biases for _ in range(self.count)]

    def places(self, partial: ir.Value) -> list[ir.Value]:
        """The addresses of the partial sums."""
        channels = [self.b.add(partial, self.b.mul(const(c), self.apart)) for c in range(self.channels)]
        return [self.v.at(channel, k, BYTES) for channel in channels for k in range(self.count)]

    def partials(self, partial: ir.Value) -> list[ir.Value]:
        return [self.v.load(place) for place in self.places(partial)]

    def keep(self, partial: ir.Value, sums: Sequence[ir.Value]) -> list[ir.Value]:
        for place, value in zip(self.places(partial), sums, strict=True):
            self.v.store(value, place)
        return []

    def product(self, k: ir.Value, sums: Sequence[ir.Value]) -> list[ir.Value]:
        """Add one entry: a position, and a value for each channel."""
        b, v = self.b, self.v
        position = b.zext(v.load(v.at(self.positions, k, 2), INT16, 2), INT64)
        pixel = v.at(self.inputs, self.integer(self.offsets, position), 4)
        inputs = [v.load(v.at(pixel, i, BYTES)) for i in range(self.count)]
        values = v.at(self.values, k, 4 * self.channels)
        result = []
        for c in range(self.channels):
            weight = v.splat(v.load(v.at(values, c, 4), FLOAT))
            result += [v.fma(weight, inputs[i], sums[c * self.count + i]) for i in range(self.count)]
        return result

    def finish(self, position: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """Add the residual, clamp and store."""
        b, v = self.b, self.v
        lane = [self.integer(self.lanes, b.add(position, const(c))) for c in range(self.channels)]
        table = self.column(self.plan, StripPlan.MASKS)
        masks = [v.bits(table, b.add(self.vector, const(i))) for i in range(self.count)]

        def add() -> list[ir.Value]:
            result = []
            for c in range(self.channels):
                start = b.add(self.residual, b.mul(lane[c], self.column(self.plan, StripPlan.RESIDUAL_CHANNEL)))
                for i in range(self.count):
                    other = v.masked(v.at(start, i, BYTES), masks[i])
                    result.append(b.fadd(sums[c * self.count + i], other))
            return result

        sums = v.either(b.icmp_signed("!=", self.residual, const(0)), add, lambda: sums)
        low, high = self.column(self.plan, StripPlan.LOW, FLOAT), self.column(self.plan, StripPlan.HIGH, FLOAT)
        bounded = b.fcmp_ordered(">", low, ir.Constant(FLOAT, -float("inf")))
        sums = v.either(bounded, lambda: [v.clamp(value, v.splat(low), v.splat(high)) for value in sums], lambda: sums)
        for c in range(self.channels):
            start = b.add(self.out, b.mul(lane[c], self.column(self.plan, StripPlan.OUT_CHANNEL)))
            for i in range(self.count):
                v.store(sums[c * self.count + i], v.at(start, i, BYTES), masks[i])
        return []
