"""Prepared matrix products: y = activation(x · Wᵀ + bias + residual)."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels import reference
from gossamer.kernels.activation import ACTIVATIONS, Activation
from gossamer.kernels.convolution import Convolution
from gossamer.kernels.layout import LINE, aligned, allocate
from gossamer.kernels.packing import Weights, first_channels
from gossamer.kernels.target import available
from gossamer.kernels.threads import spread

FEW = 4  # rows of input that are multiplied one by one
ROWS = 128  # rows of input that go through the kernel together


class Linear:
    """A linear layer with its weights packed; see `linear`. Its attributes are as those of `Convolution`."""

    def __init__(self, weights: Weights, activation: Activation):
        self.convolution = Convolution(weights, (1, 1), (1, 1), (0, 0), (1, 1), activation)  # of one pixel
        self.shape, self.activation = weights.shape[:2], activation
        self.nonzeros, self.density, self.pattern = weights.nonzeros, self.convolution.density, weights.pattern

    @property
    def bytes(self) -> int:
        """The memory of the packed weight."""
        return self.convolution.bytes

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The output's (N, O) for an input of shape (N, I)."""
        if shape[1] != self.shape[1]:
            raise InputError(f"the input has {shape[1]} features, but the weight wants {self.shape[1]}.")
        return shape[0], self.shape[0]

    def bind(self, x, out, residual=None, *, threads: int = 1) -> Callable[[], None]:
        """A call that sets out (N, O) to activation(x · Wᵀ + bias + residual), x being (N, I)."""
        if out.shape != self.output_shape(x.shape):
            raise InputError(f"out has shape {out.shape}, not {self.output_shape(x.shape)}.")
        arrays = [a for a in (x, out, residual) if a is not None]
        if not available() or any(a.dtype != np.float32 or a.strides[1] != 4 for a in arrays):
            return self._plain(x, out, residual)
        return (_one_by_one if len(x) <= FEW else _together)(self.convolution, x, out, residual, threads)

    def _plain(self, x, out, residual):
        weights = self.convolution.weights
        weight = weights.dense()[:, :, 0]

        def run():
            y = reference.linear(x, weight, weights.bias)
            out[...] = self.activation(y if residual is None else y + residual)

        return run


def _one_by_one(convolution: Convolution, x, out, residual, threads: int):
    """The matrix-vector kernel on every row."""
    from gossamer.kernels.matrices import products
    from gossamer.kernels.strips import tables

    weights = convolution.weights
    parts, keep = tables(weights)
    sums = [aligned(LINE) for _ in range(threads)]
    plans = [
        _plan(weights, convolution.activation, x[n], out[n], None if residual is None else residual[n], keep)
        for n in range(len(x))
    ]
    work = [
        (plan.ctypes.data, table.ctypes.data, s.groups)
        for plan in plans
        for table, s in zip(parts, weights.sections, strict=True)
    ]
    call, room = products.call, [s.ctypes.data for s in sums]

    def run(keep=(weights, parts, keep, sums, plans, x, out, residual)):
        for plan, table, groups in work:
            if threads == 1:
                call(plan, table, room[0], 0, groups)
            else:
                spread(lambda w, first, last, p=plan, t=table: call(p, t, room[w], first, last), groups, threads)

    return run


def _plan(weights: Weights, activation: Activation, x, out, residual, keep: list) -> np.ndarray:
    """The table that the matrix-vector program reads."""
    from gossamer.kernels.matrices import Product

    low, high = activation.bounds
    first = first_channels(weights.shape[1], weights.blocks).astype(np.int32)
    mask, plan = np.array([1] + 7 * [0], np.uint8), np.zeros(len(Product), np.int64)
    plan[: Product.BLOCKS] = x.ctypes.data, out.ctypes.data, 0 if residual is None else residual.ctypes.data
    plan[Product.BLOCKS], plan[Product.FIRST], plan[Product.MASK] = weights.blocks, first.ctypes.data, mask.ctypes.data
    for column, value in ((Product.LOW, low), (Product.HIGH, high), (Product.SLOPE, activation.slope)):
        plan.view(np.float32)[2 * column] = value
    plan[Product.ACTIVATION] = 0 if low > -math.inf else ACTIVATIONS.index(activation.name)
    keep += [first, mask]
    return plan


def _together(convolution: Convolution, x, out, residual, threads: int):
    """The convolution kernel: features are channels, rows of input are the pixels of an image one pixel high."""
    from gossamer.kernels.matrices import transpose

    (n, inputs), outputs = x.shape, out.shape[1]
    size = min(n, ROWS)
    workers = min(threads, -(-n // ROWS))
    inner = threads if workers == 1 else 1

    def chunk(rows):
        a, b = allocate((1, inputs, 1, rows)), allocate((1, outputs, 1, rows))
        c = None if residual is None else allocate((1, outputs, 1, rows))
        return a, b, c, convolution.bind(a, b, c, threads=inner)

    whole = [chunk(size) for _ in range(workers)]
    rest = chunk(n % size) if n % size else whole[0]

    def flip(rows, columns):
        transpose.call(rows.ctypes.data, rows.strides[0], columns.ctypes.data, columns.strides[1], *rows.shape)

    def part(worker, first, last):
        for index in range(first, last):
            at = slice(index * size, min(n, (index + 1) * size))
            count = at.stop - at.start
            a, b, c, call = whole[worker] if count == size else rest
            flip(x[at], a)
            if c is not None:
                flip(residual[at], c)
            call()
            y = out[at]
            transpose.call(b.ctypes.data, b.strides[1], y.ctypes.data, y.strides[0], outputs, count)

    return partial(spread, part, -(-n // size), workers)


def linear(
    weight: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    bias: np.ndarray | None = None,
    activation: Activation | str | None = None,
) -> Linear:
    """Pack weight (O, I) where `mask` (bool, same shape) is true; all of it if None. bias is (O,)."""
    weights = Weights.of(weight[:, :, None], None if mask is None else mask[:, :, None], 1, bias)
    return Linear(weights, Activation.of(activation))
