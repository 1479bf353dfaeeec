"""The inner loops of a matrix-vector product and of a transposition."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gossamer.kernels.simd import BYTES, FLOAT, INT32, INT64, LANES, VECTOR, Vectors, const
from gossamer.kernels.tiles import SIZES

KINDS = {0: None, 2: ir.IntType(16), 4: INT32}  # bytes of an index; without indices the inputs are read in order


@intrinsic
def dot(_, size, width, x, indices, values, count, sums):
    """Store to `sums` the products of `size` rows with x, over `count` vectors of entries.

    An entry is an index into x of `width` bytes, or none if that is 0; the values of LANES entries follow each
    other for the first row, then for the second, and so on.
    """

    def emit(context, builder, signature, args):
        v = Vectors(builder)
        size, width, x, indices, values, count, out = args
        after = builder.append_basic_block("after")
        switch = builder.switch(builder.add(builder.mul(size, const(8)), width), after)
        for rows in SIZES:
            for bytes, kind in KINDS.items():
                case = builder.append_basic_block(f"dot{rows}x{bytes}")
                switch.add_case(const(8 * rows + bytes), case)
                builder.position_at_end(case)

                def body(index, sums, rows=rows, bytes=bytes, kind=kind):
                    if kind is None:
                        inputs = v.load(v.at(x, index, BYTES))
                    else:
                        vector = v.load(v.at(indices, index, bytes * LANES), ir.VectorType(kind, LANES), 2)
                        inputs = v.gather(x, vector)
                    place = v.at(values, index, BYTES * rows)
                    return [v.fma(v.load(v.at(place, r, BYTES)), inputs, s) for r, s in enumerate(sums)]

                sums = v.loop(const(0), count, [ir.Constant(VECTOR, None)] * rows, body)
                for r, total in enumerate(sums):
                    v.store(v.sum(total), v.at(out, r, 4))
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), emit


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
