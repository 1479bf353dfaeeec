"""Vector code of the activations that are more than a clamp."""

import math

from llvmlite import ir
from numba import types

from gossamer.kernels.activation import ACTIVATIONS
from gossamer.kernels.simd import BYTES, FLOAT, INT32, LANES, VECTOR, Vectors, const, intrinsic

INTEGERS = ir.VectorType(INT32, LANES)


@intrinsic
def activate(_, kind, slope, address, masks, begin, count):
    """Replace `count` vectors at an address by function `kind` of ACTIVATIONS; their masks begin with `begin`."""

    def emit(context, builder, signature, args):
        kind, slope, address, masks, begin, count = args
        after = builder.append_basic_block("after")
        switch = builder.switch(kind, after)
        for number, name in enumerate(ACTIVATIONS):
            if name not in vars(_Functions):
                continue
            case = builder.append_basic_block(name)
            switch.add_case(const(number), case)
            builder.position_at_end(case)
            functions = _Functions(builder, slope)

            def body(index, _, functions=functions, name=name):
                mask = functions.bits(masks, builder.add(begin, index))
                place = functions.at(address, index, BYTES)
                functions.store(getattr(functions, name)(functions.masked(place, mask)), place, mask)
                return []

            functions.loop(const(0), count, [], body)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, *[types.int64] * 4), emit


class _Functions(Vectors):
    """Each function of one vector."""

    def __init__(self, builder, slope):
        super().__init__(builder)
        self.slope = slope

    def number(self, value):
        return ir.Constant(VECTOR, [ir.Constant(FLOAT, value)] * LANES)

    def polynomial(self, x, *coefficients):
        """Horner's rule, the highest power first."""
        result = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            result = self.fma(result, x, self.number(coefficient))
        return result

    def exp(self, x):
        """e**x by 2**n · e**r, |r| ≤ ln(2)/2, and the Taylor series of e**r; relative error below 3e-7; 1 of NaN."""
        b = self.builder
        x = self.clamp(b.select(self.is_nan(x), self.number(0), x), self.number(-87), self.number(88))
        n = self.call(f"llvm.rint.v{LANES}f32", VECTOR, b.fmul(x, self.number(1 / math.log(2))))
        high = 0.693359375  # the leading bits of ln(2), so that n · high is exact
        r = self.fma(n, self.number(-high), x)
        r = self.fma(n, self.number(high - math.log(2)), r)
        series = self.polynomial(r, *[1 / math.factorial(k) for k in range(7, -1, -1)])
        shift = ir.Constant(INTEGERS, [ir.Constant(INT32, 23)] * LANES)
        exponent = b.shl(b.fptosi(n, INTEGERS), shift)
        return b.bitcast(b.add(b.bitcast(series, INTEGERS), exponent), VECTOR)

    def leaky_relu(self, x):
        return self.builder.select(self.positive(x), x, self.builder.fmul(x, self.splat(self.slope)))

    def is_nan(self, x):
        return self.builder.fcmp_unordered("uno", x, x)

    def positive(self, x):
        return self.builder.fcmp_ordered(">", x, self.number(0))

    def hardsigmoid(self, x):
        return self.clamp(self.fma(x, self.number(1 / 6), self.number(0.5)), self.number(0), self.number(1))

    def hardswish(self, x):
        return self.builder.fmul(x, self.hardsigmoid(x))

    def sigmoid(self, x):
        e = self.exp(self.builder.fneg(x))
        result = self.builder.fdiv(self.number(1), self.builder.fadd(e, self.number(1)))
        return self.builder.select(self.is_nan(x), x, result)

    def silu(self, x):
        return self.builder.fmul(x, self.sigmoid(x))

    def gelu_tanh(self, x):
        cubic = self.fma(self.builder.fmul(x, x), self.number(0.044715), self.number(1))
        inner = self.builder.fmul(self.builder.fmul(x, cubic), self.number(math.sqrt(8 / math.pi)))
        return self.builder.fmul(x, self.sigmoid(inner))

    def gelu(self, x):
        """x·Φ(x), the error function by Abramowitz and Stegun (1964), 7.1.26."""
        b = self.builder
        z = self.call(f"llvm.fabs.v{LANES}f32", VECTOR, b.fmul(x, self.number(math.sqrt(0.5))))
        t = b.fdiv(self.number(1), self.fma(z, self.number(0.3275911), self.number(1)))
        series = self.polynomial(t, 1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0)
        tail = b.fmul(b.fmul(series, self.exp(b.fneg(b.fmul(z, z)))), self.number(0.5))
        upper = b.fsub(self.number(1), tail)
        return b.fmul(x, b.select(self.positive(x), upper, tail))
