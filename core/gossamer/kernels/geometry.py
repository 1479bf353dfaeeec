"""How a convolution walks over an image in memory.

Output pixels are counted along rows of a fixed pitch, so that one loop runs over a whole plane; what falls between
two rows is computed and not stored. A non-zero is then an offset from the output pixel into the input, the same for all
pixels. A stride s > 1 splits the input into s × s planes, its phases, of every s-th row and column, in which the
convolution has stride 1. The gradient to the input walks the same way over the gradient to the output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gossamer.errors import InputError
from gossamer.kernels.layout import LINE, Layout


@dataclass(frozen=True)
class Axis:
    """One direction, rows or columns, of a convolution on `size` pixels."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    lanes: int = 1
    """images whose pixels lie side by side, so that one's next is so many floats away"""

    @cached_property
    def output(self) -> int:
        """How many pixels come out."""
        return (self.size + 2 * self.padding - (self.kernel - 1) * self.dilation - 1) // self.stride + 1

    @cached_property
    def taps(self) -> np.ndarray:
        """The input pixel that each kernel position meets at output pixel 0."""
        return np.arange(self.kernel) * self.dilation - self.padding

    @cached_property
    def phases(self) -> np.ndarray:
        """Which of every `stride` pixels any kernel position meets."""
        return np.unique(self.taps % self.stride)

    @cached_property
    def phase(self) -> np.ndarray:
        """Each kernel position's index in `phases`."""
        return np.searchsorted(self.phases, self.taps % self.stride)

    @cached_property
    def shift(self) -> np.ndarray:
        """Each kernel position's place in its phase at output pixel 0."""
        return self.taps // self.stride

    @cached_property
    def split(self) -> int:
        """The pixels of a phase."""
        return -(-self.size // self.stride)

    @cached_property
    def before(self) -> int:
        """The zeros that the output's walk needs before a phase's first pixel."""
        return max(0, -int(self.shift.min()))

    @cached_property
    def after(self) -> int:
        """The zeros that the output's walk needs after a phase's last pixel."""
        return max(0, self.output + int(self.shift.max()) - self.split)

    @cached_property
    def halo(self) -> int:
        """The zeros around phases that suffice for the walk over the input and for its reverse."""
        back = self.split - 1 - int(self.shift.min()) - (self.output - 1)
        return max(self.before, self.after, int(self.shift.max()), back)


@dataclass(frozen=True)
class Geometry:
    """A convolution's weight `shape` (O, I/groups, KH, KW) and its way over images, in numbers for (rows, columns)."""

    shape: tuple[int, int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def channels(self) -> int:
        """The channels of the input."""
        return self.shape[1] * self.groups

    def axes(self, size: Sequence[int]) -> tuple[Axis, Axis]:
        """The two directions on an input of `size` (H, W)."""
        each = zip(size, self.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (Axis(*numbers) for numbers in each)
        return rows, columns

    def output_shape(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """The output's (N, O, OH, OW) for an input of shape (N, I, H, W). Raises InputError where it does not fit."""
        if len(shape) != 4 or shape[1] != self.channels:
            raise InputError(f"the input has shape {tuple(shape)}, not (batch, {self.channels}, rows, columns).")
        rows, columns = (axis.output for axis in self.axes(shape[2:]))
        if rows < 1 or columns < 1:
            kernel = "×".join(map(str, self.shape[2:]))
            raise InputError(f"an input of {shape[2]}×{shape[3]} pixels is too small for a kernel of {kernel}; pad it.")
        return shape[0], self.shape[0], rows, columns


@dataclass(frozen=True, eq=False)
class Walk:
    """Where a kernel finds its inputs: offsets, in elements, from the output pixel.

    `height` × `width` output pixels lie in rows `pitch` apart. Input position k lies `offset[k]` (int32) from the
    output pixel; the inputs of one part of the channels begin `part` after those of the part before.
    `reach` is the distance between the first and the last pixel in one of a channel's `planes`, on `lines` rows in all.
    """

    height: int
    width: int
    pitch: int
    offset: np.ndarray
    part: int
    reach: int
    planes: int
    lines: int

    @property
    def pixels(self) -> int:
        """From the first output pixel to the last, in elements."""
        return (self.height - 1) * self.pitch + self.width

    def masks(self, lanes: int) -> np.ndarray:
        """One bit for each pixel on the way, in whole vectors of `lanes`: whether it is an output pixel."""
        pixel = np.arange(-(-self.pixels // lanes) * lanes)
        bits = (pixel % self.pitch < self.width) & (pixel // self.pitch < self.height)
        return np.append(np.packbits(bits, bitorder="little"), np.zeros(8, np.uint8))

    def footprint(self, pixels: int) -> int:
        """How many elements of one channel a run of output pixels meets, in whole cache lines."""
        return min(self.planes * (pixels + self.reach), self.lines * (pixels + LINE))


def forward(rows: Axis, columns: Axis, channels: int, pitch: int, channel: int, plane: int) -> Walk:
    """The walk of a convolution over `channels` input channels, `channel` apart, their phases `plane` apart."""
    phase = rows.phase[:, None] * len(columns.phases) + columns.phase
    inner = phase * plane + rows.shift[:, None] * pitch + columns.shift * columns.lanes
    planes, lines = len(rows.phases) * len(columns.phases), rows.kernel * len(columns.phases)
    return _walk(rows, columns, (rows.output, columns.output), pitch, channels, channel, inner, planes, lines)


def backward(rows: Axis, columns: Axis, channels: int, pitch: int, channel: int) -> Walk:
    """The walk of the gradient to the input's phases over `channels` output channels, `channel` apart."""
    inner = -rows.shift[:, None] * pitch - columns.shift * columns.lanes
    lines = len(np.unique(rows.shift))
    return _walk(rows, columns, (rows.split, columns.split), pitch, channels, channel, inner, 1, lines)


def _walk(
    rows: Axis,
    columns: Axis,
    size: tuple[int, int],
    pitch: int,
    channels: int,
    channel: int,
    inner: np.ndarray,
    planes: int,
    lines: int,
) -> Walk:
    offset = (np.arange(channels)[:, None, None] * channel + inner).ravel().astype(np.int32)
    reach = np.ptp(rows.shift) * pitch + np.ptp(columns.shift) * columns.lanes
    height, width = size
    return Walk(height, width * columns.lanes, pitch, offset, channels * channel, int(reach), planes, lines)


def phases_walk(rows: Axis, columns: Axis, channels: int, layout: Layout) -> Walk:
    """The walk of a convolution over `channels` input channels that lie, split into their phases, as `layout` says."""
    phases = len(rows.phases) * len(columns.phases)
    return forward(rows, columns, channels, layout.pitch, phases * layout.plane, layout.plane)


def split_layout(rows: Axis, columns: Axis, channels: int, pitch: int = 0, images: int = 1) -> Layout:
    """The layout of images split into their phases, with rows `pitch` apart if that is enough."""
    phases = len(rows.phases) * len(columns.phases)
    wide = max(columns.before, columns.after, pitch - columns.split)
    return Layout((images, channels * phases, rows.split, columns.split), (max(rows.before, rows.after), wide))
