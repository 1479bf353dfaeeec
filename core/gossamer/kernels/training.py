"""Sparse layers that train: forward and both gradients, for values that change at every call."""

import threading
from collections.abc import Callable
from functools import cached_property

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels.copies import Copies, plain
from gossamer.kernels.geometry import Axis, Walk, backward, forward
from gossamer.kernels.inner import Inner, products
from gossamer.kernels.layout import Layout, aligned
from gossamer.kernels.matrices import transpose
from gossamer.kernels.packing import Weights
from gossamer.kernels.simd import LANES
from gossamer.kernels.strips import Strips, tile
from gossamer.kernels.threads import spread

KEPT = 4  # sizes of inputs whose scratch memory a layer keeps
ROWS = 128  # rows of a matrix that go through the kernels together


class Structure:
    """Where the non-zeros of a weight (O, I/groups, KH, KW) lie: `positions`, ascending, in row-major order.

    Calls may come from several threads at once: each takes scratch memory of its own.
    """

    def __init__(self, positions: np.ndarray, shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups: int = 1):
        self.positions, self.shape, self.groups = positions, tuple(shape), groups
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.idle: dict[tuple, list[_Image]] = {}
        self.lock = threading.Lock()

    def axes(self, size: tuple[int, ...]) -> tuple[Axis, Axis]:
        """The two directions on an input of `size` (H, W)."""
        each = zip(size, self.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (Axis(*numbers) for numbers in each)
        return rows, columns

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """The output's (N, O, OH, OW) for an input of shape (N, I, H, W)."""
        expected = self.shape[1] * self.groups
        if len(shape) != 4 or shape[1] != expected:
            raise InputError(f"the input has shape {tuple(shape)}, not (batch, {expected}, rows, columns).")
        oh, ow = (axis.output for axis in self.axes(shape[2:]))
        if oh < 1 or ow < 1:
            kernel = "×".join(map(str, self.shape[2:]))
            raise InputError(f"an input of {shape[2]}×{shape[3]} pixels is too small for a kernel of {kernel}; pad it.")
        return shape[0], self.shape[0], oh, ow

    def source(self) -> np.ndarray:
        """The number of the non-zero at each place of the weight, one past the last where there is none."""
        source = np.full(self.shape, len(self.positions), np.int32)
        source.reshape(-1)[self.positions] = np.arange(len(self.positions), dtype=np.int32)
        return source

    def weights(self) -> Weights:
        """The weights of the forward pass."""
        outputs, inputs, kh, kw = self.shape
        source = self.source().reshape(outputs, -1)
        return Weights.sourced(source, len(self.positions), (outputs, inputs, kh * kw), self.groups)

    def reverse(self, rows: Axis, columns: Axis) -> Weights:
        """The packing of the gradient to the input: its phases are the outputs, the forward outputs its inputs."""
        outputs, inputs, kh, kw = self.shape
        turned = self.source().reshape(self.groups, outputs // self.groups, inputs, kh, kw).swapaxes(1, 2)
        phase = rows.phase[:, None] * len(columns.phases) + columns.phase
        phases = np.arange(len(rows.phases) * len(columns.phases))[:, None, None, None]
        source = np.where(phase == phases, turned[:, :, None], np.int32(len(self.positions)))
        source = source.reshape(self.groups * inputs * len(phases), -1)
        shape = (len(source), outputs // self.groups, kh * kw)
        return Weights.sourced(source, len(self.positions), shape, self.groups)

    def image(self, size, threads) -> "_Image":
        """Scratch memory for images of `size` (H, W), to be given back to `idle`."""
        with self.lock:
            idle = self.idle.pop((size, threads), [])
            if idle:
                image = idle.pop()
                if idle:
                    self.idle[size, threads] = idle
                return image
        return _Image(self, size, threads)

    def give(self, image: "_Image", size, threads):
        """Take scratch memory back."""
        with self.lock:
            self.idle.setdefault((size, threads), []).append(image)
            while len(self.idle) > KEPT:
                del self.idle[next(iter(self.idle))]


class _Image:
    """One image on its way through a layer and back: its phases, its output, and the kernels bound to them."""

    def __init__(self, structure: Structure, size: tuple[int, int], threads: int):
        self.structure, self.threads = structure, threads
        rows, columns = self.rows, self.columns = structure.axes(size)
        self.phases = len(rows.phases) * len(columns.phases)
        outputs, channels = structure.shape[0], structure.groups * structure.shape[1] * self.phases
        pitch = max(columns.split, columns.output) + columns.halo
        if rows.size == 1:
            pitch = -(-pitch // LANES) * LANES
        self.inner_layout = Layout((1, channels, rows.split, columns.split), (rows.halo, pitch - columns.split))
        self.outer_layout = Layout(
            (1, outputs, rows.output, columns.output),
            (rows.halo + max(0, rows.split - rows.output), pitch - columns.output),
        )
        self.x, self.y = (layout.view(aligned(layout.size)) for layout in (self.inner_layout, self.outer_layout))
        self.at_x, self.at_y = ((array.ctypes.data, array.strides[1]) for array in (self.x, self.y))

    @cached_property
    def forward_walk(self) -> Walk:
        """The walk over the phases."""
        layout, phases = self.inner_layout, self.phases
        return forward(
            self.rows, self.columns, self.structure.shape[1], layout.pitch, phases * layout.plane, layout.plane
        )

    @cached_property
    def forward(self) -> Strips:
        """x to y."""
        return self._strips(self.structure.weights(), self.forward_walk, self.x, self.y)

    def _strips(self, weights: Weights, walk: Walk, x, y) -> Strips:
        return Strips(weights.in_blocks(tile(weights, walk)[1]), walk, x, y, threads=self.threads)

    @cached_property
    def gradient(self) -> np.ndarray:
        """The gradient to x, in x's own memory unless it would fill the room that phases of unlike sizes leave zero."""
        if self.rows.stride == self.columns.stride == 1:
            return self.x
        return self.inner_layout.view(aligned(self.inner_layout.size))

    @cached_property
    def backward(self) -> Strips:
        """The gradient to y, in y, to that to x, in `gradient`."""
        layout, outputs = self.outer_layout, self.structure.shape[0] // self.structure.groups
        walk = backward(self.rows, self.columns, outputs, layout.pitch, layout.plane)
        return self._strips(self.structure.reverse(self.rows, self.columns), walk, self.y, self.gradient)

    def copies(self, here: np.ndarray, images: np.ndarray, rows: Axis, columns: Axis) -> Copies:
        """Copies between images (N, C, H, W) and their phases in this memory."""
        return Copies(rows, columns, images[0], here[0], self.threads)

    @cached_property
    def table(self) -> np.ndarray:
        """The table of the gradient to the values."""
        outputs = self.structure.shape[0]
        position = self.structure.positions % int(np.prod(self.structure.shape[1:]))
        channel = self.structure.positions // int(np.prod(self.structure.shape[1:]))
        part = channel // max(1, outputs // self.structure.groups)
        self.starts = np.searchsorted(channel, np.arange(outputs + 1)).astype(np.int64)
        self.offsets = (self.forward_walk.offset[position] + part * self.forward_walk.part).astype(np.int32)
        table = np.zeros(len(Inner), np.int64)
        table[Inner.X], table[Inner.GRADIENT] = self.x.ctypes.data, self.y.ctypes.data
        table[Inner.GRADIENT_CHANNEL] = self.y.strides[1]
        table[Inner.VECTORS] = -(-self.forward_walk.pixels // LANES)
        table[Inner.STARTS], table[Inner.OFFSETS] = self.starts.ctypes.data, self.offsets.ctypes.data
        return table

    def multiply(self, result: np.ndarray, add: bool):
        """The gradient to the values from x and the gradient in y, to `result` or added to it."""
        table = self.table
        table[Inner.RESULT], table[Inner.ADD] = result.ctypes.data, add
        address, call = table.ctypes.data, products.call
        spread(lambda _, first, last: call(address, first, last), self.structure.shape[0], self.threads)


def convolve(structure: Structure, values, bias, x, out, threads: int = 1):
    """Set out (N, O, OH, OW) to the convolution of x (N, I, H, W) with `values` (non-zeros,), plus bias (O,) or None.

    The rows of all images are contiguous.
    """
    if not len(x):
        return
    size = x.shape[2:]
    image = structure.image(size, threads)
    image.forward.refresh(values, bias)
    to_x, from_y = image.copies(image.x, x, *structure.axes(size)), image.copies(image.y, out, *plain(out))
    for n in range(len(x)):
        to_x.split(x[n])
        image.forward.call()
        from_y.merge(out[n])
    structure.give(image, size, threads)


def convolve_back(structure: Structure, values, x, gradient, to_x, to_values, threads: int = 1):
    """Set `to_x` (N, I, H, W) and `to_values` (non-zeros,), each unless None, from the gradient (N, O, OH, OW)."""
    if not len(x):
        if to_values is not None:
            to_values[...] = 0
        return
    size = x.shape[2:]
    rows, columns = structure.axes(size)
    image = structure.image(size, threads)
    to_y, here = image.copies(image.y, gradient, *plain(gradient)), image.copies(image.x, x, rows, columns)
    from_x = None if to_x is None else image.copies(image.gradient, to_x, rows, columns)
    if to_x is not None:
        image.backward.refresh(values)
        if len(rows.phases) < rows.stride or len(columns.phases) < columns.stride:
            to_x[...] = 0
    for n in range(len(x)):
        to_y.split(gradient[n])
        if to_x is not None and from_x is not None:
            image.backward.call()
            from_x.merge(to_x[n])
        if to_values is not None:
            here.split(x[n])
            image.multiply(to_values, n > 0)
    structure.give(image, size, threads)


def multiply(structure: Structure, values, bias, x, out, threads: int = 1):
    """Set out (N, O) to x (N, I) times the transposed weight (O, I, 1, 1) with `values`, plus bias (O,) or None."""

    def part(image, rows):
        _turn(x[rows], image.at_x)
        image.forward.call()
        _turn_back(image.at_y, out[rows])

    _in_parts(structure, len(x), threads, lambda image: image.forward.refresh(values, bias), part)


def multiply_back(structure: Structure, values, x, gradient, to_x, to_values, threads: int = 1):
    """Set `to_x` (N, I) and `to_values` (non-zeros,), each unless None, from the gradient (N, O) to the output."""
    if to_values is not None and not len(x):
        to_values[...] = 0

    def part(image, rows):
        _turn(gradient[rows], image.at_y)
        if to_x is not None:
            image.backward.call()
            _turn_back(image.at_x, to_x[rows])
        if to_values is not None:
            _turn(x[rows], image.at_x)
            image.multiply(to_values, rows.start > 0)

    def prepare(image):
        if to_x is not None:
            image.backward.refresh(values)

    _in_parts(structure, len(x), threads, prepare, part)


def _in_parts(structure, count: int, threads: int, prepare: Callable, part: Callable):
    """Call part(image, rows) for runs of at most ROWS of `count` rows; each image is prepared first."""
    for begin, end, size in ((0, count - count % ROWS, ROWS), (count - count % ROWS, count, count % ROWS)):
        if begin < end:
            image = structure.image((1, size), threads)
            prepare(image)
            for start in range(begin, end, size):
                part(image, slice(start, start + size))
            structure.give(image, (1, size), threads)


def _turn(rows: np.ndarray, image: tuple[int, int]):
    """Copy a matrix (N, C) into the pixels of an image (1, C, 1, N), given as its address and its channels' stride."""
    transpose.call(rows.ctypes.data, rows.strides[0], *image, *rows.shape)


def _turn_back(image: tuple[int, int], rows: np.ndarray):
    """Copy the pixels of an image (1, C, 1, N) into a matrix (N, C)."""
    transpose.call(*image, rows.ctypes.data, rows.strides[0], *rows.shape[::-1])
