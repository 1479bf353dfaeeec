"""The kernels' inner loops: tiles of accumulators that stay in registers while a loop runs over non-zeros.

Operands are addresses (int64, in bytes) and counts. A plan is a table of int64 whose columns the constants name; the
driver in `programs` walks over images and tiles, the code here does one tile.
"""

from enum import IntEnum, auto

from llvmlite import ir
from numba import types

from gossamer.kernels.simd import BYTES, FLOAT, INT16, INT32, INT64, Vectors, const, intrinsic
from gossamer.kernels.target import target

SIZES = (8, 4, 2, 1)  # how many output channels may form a group


class Plan(IntEnum):
    """The columns of a bound convolution's plan; strides are in bytes."""

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
    TILE = auto()  # vectors in a tile
    TILES = auto()  # in a plane
    IMAGES = auto()
    BLOCKS = auto()  # of input channels
    OFFSETS = auto()  # int32, in elements: from the output pixel to that of each input position
    FIRST = auto()  # int32, the first position of each block
    PART = auto()  # bytes from the inputs of one part to those of the next
    CHUNKS = auto()  # a table of three columns: a section's address, its first group and the group after its last
    LOW = auto()  # float32
    HIGH = auto()  # float32
    ACTIVATION = auto()  # as numbered in ACTIVATIONS
    SLOPE = auto()  # float32


class Section(IntEnum):
    """The columns of a section of a packed weight: groups of `SIZE` output channels each."""

    SIZE = 0
    GROUPS = auto()
    LANES = auto()  # int32, the channels in the order of the groups
    BIAS = auto()  # float32, in that order
    POSITION = auto()  # how many channels the sections before hold
    PARTS = auto()  # int32, the part of each group
    STARTS = auto()  # int32 [blocks][groups + 1]
    POSITIONS = auto()  # uint16
    VALUES = auto()  # float32, SIZE for each position


def _peek(kind, emitted, size: int):
    @intrinsic
    def peek(_, address, index):
        def emit(context, builder, signature, args):
            vectors = Vectors(builder)
            return vectors.load(vectors.at(args[0], args[1], size), emitted, 4)

        return kind(types.int64, types.int64), emit

    return peek


peek = _peek(types.int64, INT64, 8)
peek_float = _peek(types.float32, FLOAT, 8)  # in a table of int64
peek_int32 = _peek(types.int32, INT32, 4)
float32_at = _peek(types.float32, FLOAT, 4)


@intrinsic
def accumulate(_, plan, section, vectors, x, out, residual, partial, vector, block, begin, end):
    """Compute the groups begin … end-1 of a section for `vectors` vectors of pixels, from vector `vector` on.

    x, out and residual are the addresses of that first pixel in channel 0. Before the last block of input channels the
    sums go to `partial` (TILE vectors for each channel); the last adds the residual, clamps and stores them.
    """

    def emit(context, builder, signature, args):
        size = Vectors(builder).load(Vectors(builder).at(args[1], Section.SIZE, 8), INT64, 8)
        after = builder.append_basic_block("after")
        key = builder.add(builder.mul(size, const(64)), args[2])
        switch = builder.switch(key, after)
        for channels in SIZES:
            for count in range(1, target().vectors(channels) + 1):
                case = builder.append_basic_block(f"tile{channels}x{count}")
                switch.add_case(const(channels * 64 + count), case)
                builder.position_at_end(case)
                _Tile(builder, channels, count, *args).emit()
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), emit


class _Tile:
    """The code for groups of `channels` channels and `count` vectors of pixels."""

    def __init__(
        self, builder, channels, count, plan, section, _, x, out, residual, partial, vector, block, begin, end
    ):
        self.v, self.b = Vectors(builder), builder
        self.channels, self.count = channels, count
        self.plan, self.section = plan, section
        self.x, self.out, self.residual, self.partial, self.vector = x, out, residual, partial, vector
        self.block, self.begin, self.end = block, begin, end

    def column(self, table, index, kind: ir.Type = INT64):
        return self.v.load(self.v.at(table, int(index), 8), kind, 8)

    def integer(self, table, index):
        return self.b.sext(self.v.load(self.v.at(table, index, 4), INT32), INT64)

    def emit(self):
        """The loop over groups."""
        b, v = self.b, self.v
        self.lanes, self.bias, self.parts, self.positions, self.values = (
            self.column(self.section, c)
            for c in (Section.LANES, Section.BIAS, Section.PARTS, Section.POSITIONS, Section.VALUES)
        )
        row = b.add(self.column(self.section, Section.GROUPS), const(1))
        self.starts = v.at(self.column(self.section, Section.STARTS), b.mul(self.block, row), 4)
        first = self.integer(self.column(self.plan, Plan.FIRST), self.block)
        self.offsets = v.at(self.column(self.plan, Plan.OFFSETS), first, 4)
        self.apart_parts = self.column(self.plan, Plan.PART)
        self.apart = b.mul(self.column(self.plan, Plan.TILE), const(BYTES))
        position = self.column(self.section, Section.POSITION)
        self.partial = b.add(self.partial, b.mul(position, self.apart))
        self.first = b.icmp_signed("==", self.block, const(0))
        following = b.add(self.block, const(1))
        self.last = b.icmp_signed("==", following, self.column(self.plan, Plan.BLOCKS))
        v.loop(self.begin, self.end, [], self.group)

    def group(self, g, _):
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

    def biases(self, position):
        """Every channel's bias in all its vectors."""
        address = self.v.at(self.bias, position, 4)
        biases = [self.v.splat(self.v.load(self.v.at(address, c, 4), FLOAT)) for c in range(self.channels)]
        return [bias for bias in biases for _ in range(self.count)]

    def places(self, partial):
        """The addresses of the partial sums."""
        channels = [self.b.add(partial, self.b.mul(const(c), self.apart)) for c in range(self.channels)]
        return [self.v.at(channel, k, BYTES) for channel in channels for k in range(self.count)]

    def partials(self, partial):
        return [self.v.load(place) for place in self.places(partial)]

    def keep(self, partial, sums):
        for place, value in zip(self.places(partial), sums, strict=True):
            self.v.store(value, place)
        return []

    def product(self, k, sums):
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

    def finish(self, position, sums):
        """Add the residual, clamp and store."""
        b, v = self.b, self.v
        lane = [self.integer(self.lanes, b.add(position, const(c))) for c in range(self.channels)]
        table = self.column(self.plan, Plan.MASKS)
        masks = [v.bits(table, b.add(self.vector, const(i))) for i in range(self.count)]

        def add():
            result = []
            for c in range(self.channels):
                start = b.add(self.residual, b.mul(lane[c], self.column(self.plan, Plan.RESIDUAL_CHANNEL)))
                for i in range(self.count):
                    other = v.masked(v.at(start, i, BYTES), masks[i])
                    result.append(b.fadd(sums[c * self.count + i], other))
            return result

        sums = v.either(b.icmp_signed("!=", self.residual, const(0)), add, lambda: sums)
        low, high = self.column(self.plan, Plan.LOW, FLOAT), self.column(self.plan, Plan.HIGH, FLOAT)
        bounded = b.fcmp_ordered(">", low, ir.Constant(FLOAT, -float("inf")))
        sums = v.either(bounded, lambda: [v.clamp(value, v.splat(low), v.splat(high)) for value in sums], lambda: sums)
        for c in range(self.channels):
            start = b.add(self.out, b.mul(lane[c], self.column(self.plan, Plan.OUT_CHANNEL)))
            for i in range(self.count):
                v.store(sums[c * self.count + i], v.at(start, i, BYTES), masks[i])
        return []
