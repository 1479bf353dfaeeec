"""How a convolution walks over an image in memory.

Output pixels are counted along rows of a fixed pitch, so that one loop runs over a whole plane; what falls between
two rows is computed and not stored. A non-zero is then an offset from the output pixel into the input, the same for all
pixels. A stride s > 1 splits the input into s × s planes, its phases, of every s-th row and column, in which the
convolution has stride 1. The gradient to the input walks the same way over the gradient to the output.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gossamer.kernels.layout import LINE, Layout


@dataclass(frozen=True)
class Axis:
    """One direction, rows or columns, of a convolution on `size` pixels."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int

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
    inner = phase * plane + rows.shift[:, None] * pitch + columns.shift
    planes, lines = len(rows.phases) * len(columns.phases), rows.kernel * len(columns.phases)
    return _walk(rows, columns, (rows.output, columns.output), pitch, channels, channel, inner, planes, lines)


def backward(rows: Axis, columns: Axis, channels: int, pitch: int, channel: int) -> Walk:
    """The walk of the gradient to the input's phases over `channels` output channels, `channel` apart."""
    inner = -rows.shift[:, None] * pitch - columns.shift
    lines = len(np.unique(rows.shift))
    return _walk(rows, columns, (rows.split, columns.split), pitch, channels, channel, inner, 1, lines)


def _walk(rows, columns, size, pitch, channels, channel, inner, planes, lines) -> Walk:
    offset = (np.arange(channels)[:, None, None] * channel + inner).ravel().astype(np.int32)
    reach = np.ptp(rows.shift) * pitch + np.ptp(columns.shift)
    height, width = size
    return Walk(height, width, pitch, offset, channels * channel, int(reach), planes, lines)


def split_layout(rows: Axis, columns: Axis, channels: int, pitch: int = 0) -> Layout:
    """The layout of one image split into its phases, its rows `pitch` apart if that is enough."""
    phases = len(rows.phases) * len(columns.phases)
    wide = max(columns.before, columns.after, pitch - columns.split)
    return Layout((1, channels * phases, rows.split, columns.split), (max(rows.before, rows.after), wide))
