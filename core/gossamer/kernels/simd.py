"""The vector instructions that the kernels are made of, emitted through llvmlite at a Numba intrinsic's place."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numba.extending
from llvmlite import ir

from gossamer.kernels.target import target

FLOAT, INT16, INT32, INT64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
LANES = target().lanes
VECTOR = ir.VectorType(FLOAT, LANES)
MASK = ir.VectorType(ir.IntType(1), LANES)
BYTES = 4 * LANES  # of a vector
intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.extending.intrinsic


def const(value: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(INT64, value)


class Vectors:
    """The few vector instructions that the kernels are made of, emitted at a builder's position."""

    def __init__(self, builder: Any):
        self.builder = builder

    def call(self, name: str, returns: ir.Type, *args: Any) -> ir.Value:
        """Call the LLVM intrinsic `name`."""
        functions = self.builder.module.globals
        function = functions.get(name)
        if function is None:
            function = ir.Function(self.builder.module, ir.FunctionType(returns, [a.type for a in args]), name)
        return self.builder.call(function, args)

    def load(self, address: ir.Value, kind: ir.Type = VECTOR, align: int = 4) -> ir.Value:
        """The value of type `kind` at an address."""
        loaded = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        loaded.align = align
        return loaded

    def store(self, value: Any, address: ir.Value, mask: ir.Value | None = None) -> None:
        """Store a value at an address, a vector only where `mask` is true."""
        pointer = self.builder.inttoptr(address, value.type.as_pointer())
        if mask is None:
            self.builder.store(value, pointer).align = 4
        else:
            name = f"llvm.masked.store.v{LANES}f32.p0"
            self.call(name, ir.VoidType(), value, pointer, ir.Constant(INT32, 4), mask)

    def masked(self, address: ir.Value, mask: ir.Value, kind: ir.VectorType = VECTOR) -> ir.Value:
        """The vector at an address, zero where `mask` is false."""
        pointer = self.builder.inttoptr(address, kind.as_pointer())
        element = "f32" if kind == VECTOR else f"i{kind.element.width}"
        align = ir.Constant(INT32, 4 if kind == VECTOR else kind.element.width // 8)
        return self.call(f"llvm.masked.load.v{LANES}{element}.p0", kind, pointer, align, mask, ir.Constant(kind, None))

    def prefetch(self, address: ir.Value) -> None:
        """Have the cache line at an address, which may lie outside any array, brought near."""
        pointer = self.builder.inttoptr(address, FLOAT.as_pointer())
        self.call("llvm.prefetch.p0", ir.VoidType(), pointer, *(ir.Constant(INT32, hint) for hint in (0, 3, 1)))

    def at(self, address: ir.Value, index: ir.Value | int, size: int) -> ir.Value:
        """The address of element `index` (an integer or a value), each of `size` bytes."""
        if isinstance(index, int):
            return self.builder.add(address, const(index * size)) if index else address
        return self.builder.add(address, self.builder.mul(index, const(size)))

    def splat(self, scalar: ir.Value) -> ir.Value:
        """A vector of one scalar."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
        return self.shuffle(first, undefined, [0] * LANES)

    def shuffle(self, a: ir.Value, b: ir.Value, lanes: Iterable[int]) -> ir.Value:
        """The lanes of a (0 …) and b (LANES …) in a new order."""
        lanes = list(lanes)
        order = ir.Constant(ir.VectorType(INT32, len(lanes)), lanes)
        return self.builder.shuffle_vector(a, b, order)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a · b + c, fused where the processor can."""
        return self.call(f"llvm.fmuladd.v{LANES}f32", VECTOR, a, b, c)

    def clamp(self, x: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """min(max(x, low), high), and NaN of NaN; choices that processors have as one instruction."""
        b = self.builder
        x = b.select(b.fcmp_ordered("<", x, low), low, x)
        return b.select(b.fcmp_ordered(">", x, high), high, x)

    def bits(self, address: ir.Value, index: ir.Value) -> ir.Value:
        """The mask whose bits are the `index`-th group of LANES bits at an address."""
        if LANES >= 8:
            return self.builder.bitcast(self.load(self.at(address, index, LANES // 8), ir.IntType(LANES), 1), MASK)
        byte = self.load(self.builder.add(address, self.builder.lshr(index, const(1))), ir.IntType(8), 1)
        shift = self.builder.shl(self.builder.and_(index, const(1)), const(2))
        nibble = self.builder.lshr(byte, self.builder.trunc(shift, ir.IntType(8)))
        return self.builder.bitcast(self.builder.trunc(nibble, ir.IntType(4)), MASK)

    def gather(self, address: ir.Value, indices: ir.Value, mask: ir.Value) -> ir.Value:
        """The floats at an address + 4 · index for unsigned indices of 16 bits; zero where `mask` is false."""
        b = self.builder
        indices = b.zext(indices, ir.VectorType(INT64, LANES))
        base = b.inttoptr(address, FLOAT.as_pointer())
        places = _Places(b.block, ir.VectorType(ir.PointerType(), LANES), base, indices)
        b._insert(places)
        name = f"llvm.masked.gather.v{LANES}f32.v{LANES}p0"
        return self.call(name, VECTOR, places, ir.Constant(INT32, 4), mask, ir.Constant(VECTOR, None))

    def sums(self, make: Callable[[int], ir.Value], count: int) -> ir.Value:
        """A vector whose lane i is the sum of all lanes of make(i % count), for `count`, a power of two."""
        value, step = self._tree(make, 0, count), count
        while step < LANES:
            value = self.builder.fadd(value, self.shuffle(value, value, [lane ^ step for lane in range(LANES)]))
            step *= 2
        return value

    def _tree(self, make: Callable[[int], ir.Value], begin: int, count: int) -> ir.Value:
        """A vector whose lane i is the sum of the lanes j of make(begin + i % count) that equal i above `count`."""
        if count == 1:
            return make(begin)
        half = count // 2
        a, b = self._tree(make, begin, half), self._tree(make, begin + half, half)
        low = [(lane & ~half) + (LANES if lane & half else 0) for lane in range(LANES)]
        high = [(lane | half) + (LANES if lane & half else 0) for lane in range(LANES)]
        return self.builder.fadd(self.shuffle(a, b, low), self.shuffle(a, b, high))

    def transpose(self, rows: Sequence[ir.Value]) -> Sequence[ir.Value]:
        """The columns of LANES vectors."""
        step = 1
        while step < LANES:
            columns = list(rows)
            for i in range(LANES):
                if not i & step:
                    a, b = rows[i], rows[i + step]
                    columns[i] = self.shuffle(
                        a, b, [lane if not lane & step else lane - step + LANES for lane in range(LANES)]
                    )
                    columns[i + step] = self.shuffle(
                        a, b, [lane + step if not lane & step else lane + LANES for lane in range(LANES)]
                    )
            rows, step = columns, 2 * step
        return rows

    def first(self, count: ir.Value) -> ir.Value:
        """The mask of the first `count` lanes."""
        lanes = ir.Constant(ir.VectorType(INT32, LANES), list(range(LANES)))
        undefined = ir.Constant(lanes.type, ir.Undefined)
        count = self.builder.trunc(count, INT32)
        many = self.builder.insert_element(undefined, count, ir.Constant(INT32, 0))
        many = self.builder.shuffle_vector(many, undefined, ir.Constant(lanes.type, [0] * LANES))
        return self.builder.icmp_signed("<", lanes, many)

    def loop(
        self,
        start: ir.Value,
        stop: ir.Value,
        state: list[Any],
        body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
    ) -> list[ir.Value]:
        """Fold `body(index, state) -> state` over start ≤ index < stop; `state` is a list of values."""
        b = self.builder
        before, inside, after = b.block, b.append_basic_block("loop"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed("<", start, stop), inside, after)
        b.position_at_end(inside)
        index = b.phi(INT64)
        index.add_incoming(start, before)
        old = [b.phi(value.type) for value in state]
        new = body(index, old)
        following = b.add(index, const(1))
        index.add_incoming(following, b.block)
        b.cbranch(b.icmp_signed("<", following, stop), inside, after)
        last = b.block
        for phi, initial, final in zip(old, state, new, strict=True):
            phi.add_incoming(initial, before)
            phi.add_incoming(final, last)
        b.position_at_end(after)
        result = [b.phi(value.type) for value in state]
        for phi, initial, final in zip(result, state, new, strict=True):
            phi.add_incoming(initial, before)
            phi.add_incoming(final, last)
        return result

    def either(self, condition: ir.Value, yes: Callable[[], list[Any]], no: Callable[[], list[Any]]) -> list[ir.Value]:
        """`yes()` where the condition holds, else `no()`; both return lists of values."""
        b = self.builder
        blocks = [b.append_basic_block(name) for name in ("yes", "no", "both")]
        b.cbranch(condition, blocks[0], blocks[1])
        ends = []
        for block, make in zip(blocks, (yes, no), strict=False):
            b.position_at_end(block)
            ends.append((make(), b.block))
            b.branch(blocks[2])
        b.position_at_end(blocks[2])
        phis = [b.phi(value.type) for value in ends[0][0]]
        for values, block in ends:
            for phi, value in zip(phis, values, strict=True):
                phi.add_incoming(value, block)
        return phis


class _Places(ir.instructions.Instruction):
    """A vector of addresses: one base, a vector of indices; llvmlite's own getelementptr takes scalars alone."""

    def __init__(self, block: ir.Block, kind: ir.Type, base: ir.Value, indices: ir.Value):
        super().__init__(block, kind, "getelementptr", [base, indices])

    def descr(self, buf: list[str]) -> None:
        """Append the instruction's text."""
        base, indices = self.operands
        text = f"getelementptr float, ptr {base.get_reference()}, {indices.type} {indices.get_reference()}\n"
        buf.append(text)
