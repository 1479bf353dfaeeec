"""Where the images of a tensor lie in memory: rows and planes with a halo of zeros around every image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LINE = 16  # floats in a cache line of 64 bytes, the alignment of planes
SLACK = 512  # floats that a kernel's vectors may read past the last plane


@dataclass(frozen=True)
class Layout:
    """The plan of a buffer for `shape` (N, C, H, W) whose images have `halo` (rows, columns) of zeros on every side.

    The columns right of one row are those left of the next, and the rows below one plane lie in that plane's end,
    those above it in the end of the plane before, so a plane takes (H + rows) × (W + columns) floats, rounded up to an
    odd number of cache lines (odd, that equal pixels of many channels may not fall into one set of the cache).
    """

    shape: tuple[int, int, int, int]
    halo: tuple[int, int] = (0, 0)

    @property
    def pitch(self) -> int:
        """Floats from one row to the next."""
        return self.shape[3] + self.halo[1]

    @property
    def plane(self) -> int:
        """Floats from one channel to the next."""
        lines = -(-(self.shape[2] + self.halo[0]) * self.pitch // LINE)
        return (lines | 1 if lines > 4 else lines) * LINE

    @property
    def offset(self) -> int:
        """Floats before the first pixel."""
        return -(-(self.halo[0] * self.pitch + self.halo[1]) // LINE) * LINE

    @property
    def size(self) -> int:
        """Floats in all, with halos and what aligns them."""
        n, c, _, _ = self.shape
        return self.offset + n * c * self.plane + self.offset + SLACK

    def view(self, flat: np.ndarray) -> np.ndarray:
        """The interior (N, C, H, W) in the first `size` floats of `flat`, a contiguous float32 array."""
        c = self.shape[1]
        if flat.dtype != np.float32 or flat.ndim != 1 or flat.size < self.size:
            raise ValueError(f"flat must hold at least {self.size} float32, not {flat.size} {flat.dtype}")
        strides = tuple(4 * s for s in (c * self.plane, self.plane, self.pitch, 1))
        return np.asarray(_Interior(self, flat[self.offset : self.size], strides))


class _Interior:
    """The base of every view into an interior: it remembers the layout."""

    def __init__(self, layout: Layout, flat: np.ndarray, strides: tuple[int, ...]):
        self.layout, self.flat = layout, flat
        self.__array_interface__ = flat.__array_interface__ | {"shape": layout.shape, "strides": strides}


def halo(x: np.ndarray) -> tuple[int, int] | None:
    """The zero rows and columns around each image of x (N, C, H, W), None unless x is whole images of a `Layout`."""
    base: object = x
    while base is not None and not isinstance(base, _Interior):
        base = getattr(base, "base", None)
    if base is None:
        return None
    layout, begin = base.layout, base.flat.ctypes.data
    whole = (x.ctypes.data - begin) % (4 * layout.plane) == 0 and x.strides[1] % (4 * layout.plane) == 0
    same = x.shape[2:] == layout.shape[2:] and x.strides[2] == 4 * layout.pitch
    return layout.halo if whole and same else None


def aligned(size: int) -> np.ndarray:
    """A zeroed float32 array of `size` elements that begins at a cache line."""
    raw = np.zeros(size + LINE, np.float32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + size]


class Floats(NamedTuple):
    """Contiguous float32 in memory that someone else keeps alive; quicker to make than an array."""

    address: int
    shape: Sequence[int]

    @classmethod
    def of(cls, array: np.ndarray) -> "Floats":
        """Those of a contiguous float32 array."""
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError(f"the array must hold contiguous float32, not {array.dtype} with strides {array.strides}")
        return cls(array.ctypes.data, array.shape)

    def part(self, start: int, stop: int) -> "Floats":
        """Those of indices start … stop - 1 in the first dimension."""
        if start == 0 and stop == self.shape[0]:
            return self
        rest = tuple(self.shape[1:])
        return Floats(self.address + 4 * start * math.prod(rest), (stop - start, *rest))


class Scratch:
    """Memory for what is needed during one binding's run only: bindings that never run at the same time may share it.

    It stays in the processor's cache where memory of each binding's own would not.
    """

    def __init__(self) -> None:
        self.memory = aligned(0)

    def take(self, *layouts: Layout) -> list[np.ndarray]:
        """Images of these layouts, side by side, whose content is arbitrary: no halo is zero."""
        starts = np.cumsum([0, *(-(-layout.size // LINE) * LINE for layout in layouts)]).tolist()
        if self.memory.size < starts[-1]:
            self.memory = aligned(starts[-1])
        return [layout.view(self.memory[start:]) for layout, start in zip(layouts, starts, strict=False)]


def allocate(shape: tuple[int, int, int, int], halo: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The interior (N, C, H, W), zero, of a new buffer with `halo` (rows, columns) of zeros around each image."""
    layout = Layout(shape, halo)
    return layout.view(aligned(layout.size))
