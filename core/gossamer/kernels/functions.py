"""Machine code of the activations: their formulas in vectors, applied to memory in place."""

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from gossamer.kernels.activation import ACTIVATIONS, Function
from gossamer.kernels.simd import BYTES, FLOAT, INT32, LANES, VECTOR, Vectors, const, intrinsic

INTEGERS = ir.VectorType(INT32, LANES)
CLAMP = -1
"""What stands for a clamp by its bounds in `activate_row`; other activations have their numbers."""


class Value:
    """A vector in a formula, which sums, products and comparisons are written with; numbers count as vectors."""

    def __init__(self, vectors: Vectors, value: ir.Value):
        self.vectors, self.value = vectors, value

    def of(self, other: Any) -> ir.Value:
        """The vector that an operand stands for."""
        return other.value if isinstance(other, Value) else _number(other)

    def made(self, operator: str, *operands: Any) -> "Value":
        """The result of an instruction of the builder; products and sums may be fused."""
        values = [self.of(operand) for operand in operands]
        return Value(self.vectors, getattr(self.vectors.builder, operator)(*values, flags=("contract",)))

    def __add__(self, other: Any) -> "Value":
        return self.made("fadd", self, other)

    def __sub__(self, other: Any) -> "Value":
        return self.made("fsub", self, other)

    def __rsub__(self, other: Any) -> "Value":
        return self.made("fsub", other, self)

    def __mul__(self, other: Any) -> "Value":
        return self.made("fmul", self, other)

    def __rtruediv__(self, other: Any) -> "Value":
        return self.made("fdiv", other, self)

    def __truediv__(self, other: Any) -> "Value":
        return self.made("fdiv", self, other)

    def __neg__(self) -> "Value":
        return Value(self.vectors, self.vectors.builder.fneg(self.value))

    def __gt__(self, other: Any) -> "Value":
        return Value(self.vectors, self.vectors.builder.fcmp_ordered(">", self.value, self.of(other)))

    __radd__, __rmul__ = __add__, __mul__


class _Machine:
    """The arithmetic of vectors."""

    def __init__(self, vectors: Vectors):
        self.vectors = vectors

    def abs(self, x: Value) -> Value:
        return Value(self.vectors, self.vectors.call(f"llvm.fabs.v{LANES}f32", VECTOR, x.value))

    def clip(self, x: Value, low: Any, high: Any) -> Value:
        return Value(self.vectors, self.vectors.clamp(x.value, x.of(low), x.of(high)))

    def where(self, condition: Value, yes: Any, no: Any) -> Value:
        chosen = self.vectors.builder.select(condition.value, condition.of(yes), condition.of(no))
        return Value(self.vectors, chosen)

    def exp(self, x: Value) -> Value:
        return exponential(self.vectors, x)


def exponential(v: Vectors, x: Value) -> Value:
    """e^x = 2^n e^r, |r| ≤ ln(2)/2, and Cephes' polynomial of e^r (Moshier): relative error below 2e-7.

    Adding 1.5 · 2^23 rounds x / ln(2) to the whole number n, which then stands in the sum's lowest bits.
    """
    b = v.builder
    inside = v.clamp(x.value, _number(-87), _number(88))
    rounded = v.fma(inside, _number(1 / math.log(2)), _number(12582912))
    n = b.fsub(rounded, _number(12582912))
    high = 0.693359375  # the leading bits of ln(2), so that n · high is exact
    r = v.fma(n, _number(-high), inside)
    r = v.fma(n, _number(high - math.log(2)), r)
    series = _number(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        series = v.fma(series, r, _number(c))
    series = b.fadd(v.fma(series, b.fmul(r, r), r), _number(1))
    bits = b.add(b.bitcast(rounded, INTEGERS), _integer(127))
    return Value(v, b.fmul(series, b.bitcast(b.shl(bits, _integer(23)), VECTOR)))


def _integer(value: int) -> ir.Constant:
    return ir.Constant(INTEGERS, [ir.Constant(INT32, value)] * LANES)


def _number(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [ir.Constant(FLOAT, float(value))] * LANES)


def _formula(vectors: Vectors, function: Function, slope: ir.Value, x: ir.Value) -> ir.Value:
    """Emit an activation that is no clamp; `slope` is its one constant, where it has one."""
    constants = [Value(vectors, slope)][: len(function.constants)]
    return function.formula(_Machine(vectors), Value(vectors, x), *constants).value


_FUNCTIONS = [(number, f) for number, f in enumerate(ACTIVATIONS.values()) if number and not f.bounds]


@intrinsic
def activate(_: Any, kind: Any, slope: Any, address: Any, masks: Any, begin: Any, count: Any) -> Any:
    """Replace `count` vectors at an address by function `kind` of ACTIVATIONS; their masks begin with `begin`."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        kind, slope, address, masks, begin, count = args
        after = builder.append_basic_block("after")
        switch = builder.switch(kind, after)
        for number, function in _FUNCTIONS:
            case = builder.append_basic_block("case")
            switch.add_case(const(number), case)
            builder.position_at_end(case)
            v = Vectors(builder)
            constant = v.splat(slope)

            def body(
                index: ir.Value,
                _: list[ir.Value],
                v: Vectors = v,
                function: Any = function,
                constant: ir.Value = constant,
            ) -> list[ir.Value]:
                mask = v.bits(masks, builder.add(begin, index))
                place = v.at(address, index, BYTES)
                v.store(_formula(v, function, constant, v.masked(place, mask)), place, mask)
                return []

            v.loop(const(0), count, [], body)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, *[types.int64] * 4), emit


@intrinsic
def activate_row(_: Any, kind: Any, low: Any, high: Any, address: Any, size: Any) -> Any:
    """Replace `size` floats at an address by function `kind`, or by a clamp from `low` to `high`.

    `low` is the constant of a function that has one; kind 0 changes nothing.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        kind, low, high, address, size = args
        after = builder.append_basic_block("after")
        switch = builder.switch(kind, after)
        for number, function in [(CLAMP, None), *_FUNCTIONS]:
            case = builder.append_basic_block("case")
            switch.add_case(const(number), case)
            builder.position_at_end(case)
            v = Vectors(builder)
            least, most = v.splat(low), v.splat(high)

            def result(
                x: ir.Value,
                v: Vectors = v,
                function: Any = function,
                least: ir.Value = least,
                most: ir.Value = most,
            ) -> ir.Value:
                return _formula(v, function, least, x) if function else v.clamp(x, least, most)

            def body(index: ir.Value, _: list[ir.Value], v: Vectors = v, result: Any = result) -> list[ir.Value]:
                place = v.at(address, index, BYTES)
                v.store(result(v.load(place)), place)
                return []

            whole = builder.sdiv(size, const(LANES))
            v.loop(const(0), whole, [], body)
            place = v.at(address, whole, BYTES)
            mask = v.first(builder.srem(size, const(LANES)))
            v.store(result(v.masked(place, mask)), place, mask)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.float32, types.int64, types.int64), emit
