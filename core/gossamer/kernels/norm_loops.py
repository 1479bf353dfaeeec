"""The loops of norms over the channels of each pixel, some vectors of pixels at a time in registers."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.image_loops import Image, Norm, place
from gossamer.kernels.memory import peek, peek_float
from gossamer.kernels.simd import BYTES, FLOAT, LANES, VECTOR, Vectors, const, intrinsic

MANY = 4
"""The vectors of pixels that are normalized together where there are as many."""
BAND = MANY * LANES
"""The pixels of an item."""


def _normalizing(vectors: int) -> Any:
    @intrinsic
    def normalize(
        _: Any,
        x: Any,
        x_step: Any,
        out: Any,
        out_step: Any,
        channels: Any,
        weight: Any,
        bias: Any,
        epsilon: Any,
        centred: Any,
        count: Any,
    ) -> Any:
        """out = (x − mean) / √(variance + ε) · weight + bias of `count` pixels; the mean is 0 unless `centred` is 1."""

        def emit(context: Any, b: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
            v = Vectors(b)
            x, x_step, out, out_step, channels, weight, bias, epsilon, centred, count = args
            masks = [v.first(b.sub(count, const(k * LANES))) for k in range(vectors)]
            zeros = [ir.Constant(VECTOR, None)] * vectors
            each = v.splat(b.fdiv(ir.Constant(FLOAT, 1.0), b.sitofp(channels, FLOAT)))

            def loaded(c: ir.Value) -> list[ir.Value]:
                row = b.add(x, b.mul(c, x_step))
                return [v.masked(v.at(row, k, BYTES), mask) for k, mask in enumerate(masks)]

            def add(c: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                return [b.fadd(one, total) for one, total in zip(loaded(c), sums, strict=True)]

            scale = b.fmul(each, v.splat(centred))
            means = [b.fmul(total, scale) for total in v.loop(const(0), channels, zeros, add)]

            def square(c: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
                apart = [b.fsub(one, mean) for one, mean in zip(loaded(c), means, strict=True)]
                return [v.fma(one, one, total) for one, total in zip(apart, sums, strict=True)]

            factors = []
            for total in v.loop(const(0), channels, zeros, square):
                root = v.call(f"llvm.sqrt.v{LANES}f32", VECTOR, v.fma(total, each, v.splat(epsilon)))
                factors.append(b.fdiv(ir.Constant(VECTOR, [ir.Constant(FLOAT, 1.0)] * LANES), root))

            def finish(c: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                w, t = (v.splat(v.load(v.at(array, c, 4), FLOAT)) for array in (weight, bias))
                row = b.add(out, b.mul(c, out_step))
                for k, one in enumerate(loaded(c)):
                    y = v.fma(b.fmul(b.fsub(one, means[k]), factors[k]), w, t)
                    v.store(y, v.at(row, k, BYTES), masks[k])
                return []

            v.loop(const(0), channels, [], finish)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7, types.float32, types.float32, types.int64), emit

    return normalize


one_vector, many_vectors = _normalizing(1), _normalizing(MANY)


@c_function(void(int64, int64, int64, int64))
def normalize_pixels(table: int, worker: int, first: int, end: int) -> None:
    """The norm over the channels of each pixel; an item is a band of a row of an image."""
    channels, height, width = peek(table, Image.CHANNELS), peek(table, Image.HEIGHT), peek(table, Image.WIDTH)
    weight, bias, epsilon = peek(table, Norm.WEIGHT), peek(table, Norm.BIAS), peek_float(table, Norm.EPSILON)
    x_step, out_step = peek(table, Image.X + 2), peek(table, Image.OUT + 2)
    centred, bands = peek_float(table, Norm.CENTRED), -(-width // BAND)
    for item in range(first, end):
        image, row, start = item // (height * bands), item // bands % height, item % bands * BAND
        x, out = place(table, Image.X, image, 0, row), place(table, Image.OUT, image, 0, row)
        stop = min(start + BAND, width)
        if stop - start > BAND // 2:
            x, out = x + 4 * start, out + 4 * start
            many_vectors(x, x_step, out, out_step, channels, weight, bias, epsilon, centred, stop - start)
        else:
            for w in range(start, stop, LANES):
                count = min(LANES, stop - w)
                one_vector(x + 4 * w, x_step, out + 4 * w, out_step, channels, weight, bias, epsilon, centred, count)
