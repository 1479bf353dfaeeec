"""Prepared matrix products: y = activation(x · Wᵀ + bias + residual)."""

import math
from collections.abc import Callable
from functools import cached_property, partial

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels import packing, reference
from gossamer.kernels.activation import ACTIVATIONS, Activation
from gossamer.kernels.convolution import Convolution
from gossamer.kernels.layout import allocate
from gossamer.kernels.target import available, target
from gossamer.kernels.threads import spread

FEW = 4  # rows of input that are multiplied one by one
ROWS = 128  # rows of input that go through the kernel together


class Linear:
    """A linear layer with its weights packed; see `linear`. Its attributes are those of `Convolution`, but for `halo`."""

    def __init__(self, weight, mask, bias, activation):
        self.shape, self.activation = weight.shape, activation
        self.mask = np.ones(weight.shape, bool) if mask is None else mask
        self.bias = np.zeros(len(weight), np.float32) if bias is None else bias.astype(np.float32)
        self.values = np.append(weight[self.mask], 0).astype(np.float32)
        self.nonzeros = self.values.size - 1
        self.density = self.nonzeros / weight.size
        self.sections = packing.sections(self.mask)
        self.pattern = "dense" if self.density == 1 else packing.name(self.sections)
        self.in_order = self.density == 1 and weight.shape[1] % target().lanes == 0
        width = 0 if self.in_order else 2 if weight.shape[1] <= 1 << 16 else 4
        self.index = np.dtype(f"u{width}" if width == 2 else "i4")
        self.bytes = sum(4 * s.source.size + width * s.group.size for s in self.sections)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The output's (N, O) for an input of shape (N, I)."""
        if shape[1] != self.shape[1]:
            raise InputError(f"the input has {shape[1]} features, but the weight wants {self.shape[1]}")
        return shape[0], self.shape[0]

    def bind(self, x, out, residual=None, *, threads: int = 1) -> Callable[[], None]:
        """A call that sets out (N, O) to activation(x · Wᵀ + bias + residual), x being (N, I)."""
        if out.shape != self.output_shape(x.shape):
            raise InputError(f"out has shape {out.shape}, not {self.output_shape(x.shape)}")
        arrays = [a for a in (x, out, residual) if a is not None]
        if not available() or any(a.dtype != np.float32 or a.strides[1] != 4 for a in arrays):
            return self._plain(x, out, residual)
        if len(x) <= FEW:
            return self._one_by_one(x, out, residual, threads)
        return self._together(x, out, residual, threads)

    def _plain(self, x, out, residual):
        weight = np.zeros(self.shape, self.values.dtype)
        weight[self.mask] = self.values[:-1]

        def run():
            y = reference.linear(x, weight, self.bias)
            out[...] = self.activation(y if residual is None else y + residual)

        return run

    @cached_property
    def rows(self) -> list[tuple[np.ndarray, ...]]:
        """For each section: starts, indices and values in the order of the matrix-vector kernel."""
        return [self._rows(section) for section in self.sections]

    def _rows(self, section):
        lanes = target().lanes
        counts = np.bincount(section.group, minlength=section.groups)
        starts = np.append(0, np.cumsum(-(-counts // lanes)))
        rank = np.arange(len(section.group)) - np.repeat(np.append(0, np.cumsum(counts))[:-1], counts)
        slot = starts[section.group] * lanes + rank
        values = np.zeros((starts[-1], section.size, lanes), np.float32)
        values[slot // lanes, :, slot % lanes] = self.values[section.source]
        if self.in_order:
            return starts, np.zeros(0, np.int32), values
        indices = np.zeros(starts[-1] * lanes, self.index)
        last = np.append(section.position, 0)[np.maximum(np.cumsum(counts) - 1, 0)]
        indices[:] = np.repeat(last, np.diff(starts) * lanes)
        indices[slot] = section.position
        return starts, indices, values

    def _one_by_one(self, x, out, residual, threads):
        """The matrix-vector kernel on every row."""
        from gossamer.kernels.matrices import products

        calls, keep = [], []
        for row in range(len(x)):
            other = None if residual is None else residual[row]
            for section, packed in zip(self.sections, self.rows, strict=True):
                table = self._table(section, packed, x[row], out[row], other, threads, keep)
                if threads > 1:
                    part = partial(products.call, table.ctypes.data)
                    calls.append(partial(spread, part, section.groups, threads))
                else:
                    calls.append(partial(products.call, table.ctypes.data, 0, 0, section.groups))

        def run():
            for call in calls:
                call()

        run.keep = (keep, x, out, residual)  # pyright: ignore[reportFunctionMemberAccess]
        return run

    def _table(self, section, packed, x, out, residual, threads, keep):
        from gossamer.kernels.matrices import Product

        starts, indices, values = packed
        lanes, bias = section.channels.astype(np.int32), self.bias[section.channels]
        sums, mask = np.zeros(16 * threads, np.float32), np.array([1] + 7 * [0], np.uint8)
        table = np.zeros(len(Product), np.int64)
        table[Product.SIZE] = section.size
        table[Product.WIDTH] = 0 if self.in_order else self.index.itemsize
        low, high = self.activation.bounds
        for column, value in ((Product.LOW, low), (Product.HIGH, high), (Product.SLOPE, self.activation.slope)):
            table.view(np.float32)[2 * column] = value
        table[Product.ACTIVATION] = 0 if low > -math.inf else ACTIVATIONS.index(self.activation.name)
        arrays = (x, out, residual, lanes, bias, starts, indices, values, sums)
        for column, array in zip(range(Product.X, Product.SUMS + 1), arrays, strict=True):
            table[column] = 0 if array is None else array.ctypes.data
        table[Product.MASK] = mask.ctypes.data
        keep += [table, mask, *arrays]
        return table

    def _together(self, x, out, residual, threads):
        """The convolution kernel: features are channels, rows of input are the pixels of an image one pixel high."""
        from gossamer.kernels.matrices import transpose

        (n, inputs), outputs = x.shape, len(self.bias)
        size = min(n, ROWS)
        workers = min(threads, -(-n // ROWS))
        inner = threads if workers == 1 else 1

        def chunk(rows):
            a, b = allocate((1, inputs, 1, rows)), allocate((1, outputs, 1, rows))
            c = None if residual is None else allocate((1, outputs, 1, rows))
            return a, b, c, self.convolution.bind(a, b, c, threads=inner)

        whole = [chunk(size) for _ in range(workers)]
        rest = chunk(n % size) if n % size else None

        def flip(rows, columns, count):
            transpose.call(
                rows.ctypes.data, rows.strides[0], columns.ctypes.data, columns.strides[1], count, rows.shape[1]
            )

        def part(worker, first, last):
            for index in range(first, last):
                at = slice(index * size, min(n, (index + 1) * size))
                count = at.stop - at.start
                a, b, c, call = whole[worker] if count == size else rest
                flip(x[at], a, count)
                if c is not None:
                    flip(residual[at], c, count)
                call()
                y = out[at]
                transpose.call(b.ctypes.data, b.strides[1], y.ctypes.data, y.strides[0], outputs, count)

        return partial(spread, part, -(-n // size), workers)

    @cached_property
    def convolution(self) -> Convolution:
        """The same product as a convolution of one pixel."""
        weight = np.zeros(self.shape, np.float32)
        weight[self.mask] = self.values[:-1]
        one, none, shape = (1, 1), (0, 0), (*self.shape, 1, 1)
        mask = None if self.density == 1 else self.mask.reshape(shape)
        return Convolution(weight.reshape(shape), mask, self.bias, one, none, one, 1, self.activation)


def linear(
    weight: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    activation: Activation | str | None = None,
) -> Linear:
    """Pack weight (O, I) where `mask` (bool, same shape) is true; all of it if None. bias is (O,)."""
    return Linear(weight, mask, bias, Activation.of(activation))
