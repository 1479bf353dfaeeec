"""How a convolution walks over an image in memory.

Output pixels are counted along rows of a fixed pitch, so that one loop runs over a whole plane; what falls between two rows is
computed and not stored. A non-zero is then an offset from the output pixel into the input, the same for all pixels. A stride
s > 1 splits the input into s × s planes of every s-th row and column, in which the convolution has stride 1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gossamer.kernels.layout import Layout


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
    def halo(self) -> int:
        """The zeros that a phase needs between its last pixel and the first of the next row or plane."""
        return max(0, -int(self.shift.min()), self.output + int(self.shift.max()) - self.split)


@dataclass(frozen=True)
class Walk:
    """The strides, in elements, of a convolution's walk over one image."""

    rows: Axis
    columns: Axis
    pitch: int
    channel: int
    plane: int  # between the phases of one channel

    def offsets(self, channel: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Where the input of kernel position (i, j) on an input channel lies from the output pixel, in elements."""
        phase = self.rows.phase[i] * len(self.columns.phases) + self.columns.phase[j]
        offset = channel * self.channel + phase * self.plane
        return (offset + self.rows.shift[i] * self.pitch + self.columns.shift[j]).astype(np.int32)

    @property
    def pixels(self) -> int:
        """From the first output pixel to the last, in elements."""
        return (self.rows.output - 1) * self.pitch + self.columns.output

    @property
    def reach(self) -> int:
        """From the first pixel that an output pixel meets in a plane to the last, in elements."""
        spans = [int(axis.shift.max() - axis.shift.min()) for axis in (self.rows, self.columns)]
        return spans[0] * self.pitch + spans[1]

    def masks(self, lanes: int) -> np.ndarray:
        """One bit for each pixel on the way, in whole vectors of `lanes`: whether it is an output pixel."""
        pixel = np.arange(-(-self.pixels // lanes) * lanes)
        bits = (pixel % self.pitch < self.columns.output) & (pixel // self.pitch < self.rows.output)
        return np.append(np.packbits(bits, bitorder="little"), np.zeros(8, np.uint8))


def split_layout(rows: Axis, columns: Axis, channels: int, pitch: int = 0) -> Layout:
    """The layout of one image split into its phases, its rows `pitch` apart if that is enough."""
    phases = len(rows.phases) * len(columns.phases)
    wide = max(columns.halo, pitch - columns.split)
    return Layout((1, channels * phases, rows.split, columns.split), (rows.halo, wide))
