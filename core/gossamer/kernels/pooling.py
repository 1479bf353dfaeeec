"""The largest value of every two by two pixels, the pooling of most plain networks."""

import numpy as np
from numba import types
from numba.core.types import int64, void

from gossamer.kernels.compiled import entry
from gossamer.kernels.simd import BYTES, LANES, VECTOR, Vectors, const, intrinsic
from gossamer.kernels.tiles import peek


@intrinsic
def _row(_, upper, lower, out, count):
    """Set `count` floats to the largest of two of the upper and two of the lower row each; NaN if one is."""

    def emit(context, builder, signature, args):
        v, b = Vectors(builder), builder
        upper, lower, out, count = args

        def larger(x, y):
            return v.call(f"llvm.maximum.v{LANES}f32", VECTOR, x, y)

        def joined(index, mask):
            return larger(*(v.masked(v.at(row, index, BYTES), mask) for row in (upper, lower)))

        def pooled(near, far):
            return [larger(*(v.shuffle(near, far, range(odd, 2 * LANES, 2)) for odd in (0, 1)))]

        def body(index, _):
            near, far = (joined(b.add(index, b.add(index, const(k))), every) for k in (0, 1))
            v.store(pooled(near, far)[0], v.at(out, index, BYTES))
            return []

        every, full = v.first(const(LANES)), b.sdiv(count, const(LANES))
        v.loop(const(0), full, [], body)
        rest, place = b.sub(count, b.mul(full, const(LANES))), b.mul(full, const(2))

        def tail():
            near, beyond = joined(place, v.first(b.mul(rest, const(2)))), b.sub(b.mul(rest, const(2)), const(LANES))
            value = v.either(
                b.icmp_signed(">", beyond, const(0)),
                lambda: pooled(near, joined(b.add(place, const(1)), v.first(beyond))),
                lambda: pooled(near, near),
            )
            v.store(value[0], v.at(out, full, BYTES), v.first(rest))
            return []

        v.either(b.icmp_signed(">", rest, const(0)), tail, list)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@entry(void(int64, int64, int64))
def pool(table, x, out):
    """Pool all channels of all images; the table holds the output's size, and both arrays' strides in bytes."""
    for n in range(peek(table, 0)):
        for c in range(peek(table, 1)):
            source = x + n * peek(table, 4) + c * peek(table, 5)
            target = out + n * peek(table, 7) + c * peek(table, 8)
            for h in range(peek(table, 2)):
                upper = source + 2 * h * peek(table, 6)
                _row(upper, upper + peek(table, 6), target + h * peek(table, 9), peek(table, 3))


class MaxPool:
    """out[n, c, i, j] = max over a, b in {0, 1} of x[n, c, 2i + a, 2j + b], for what x holds at each call."""

    def __init__(self, x: np.ndarray, out: np.ndarray):
        table = np.array([*out.shape, *x.strides[:3], *out.strides[:3]], np.int64)
        self.kept = table, x, out
        self.addresses = [array.ctypes.data for array in self.kept]

    def __call__(self) -> None:
        """Pool."""
        pool.call(*self.addresses)
