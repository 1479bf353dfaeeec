"""Copies of small images to where LANES of them lie side by side, the pixels of one place in one vector, and back."""

from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.types import int64, void

from gossamer.kernels.compiled import CFunction, c_function
from gossamer.kernels.geometry import Axis
from gossamer.kernels.memory import peek
from gossamer.kernels.simd import BYTES, INT32, INT64, LANES, Vectors, const, intrinsic
from gossamer.kernels.tasks import Task


class SideTable(IntEnum):
    """The columns of a table that describes images and their places side by side; strides are in bytes."""

    IMAGE = 0
    IMAGE_IMAGE = auto()
    IMAGE_CHANNEL = auto()
    PIXELS = auto()  # of a channel, contiguous
    CHANNELS = auto()
    PLACE = auto()
    PLACE_CHANNEL = auto()
    OFFSETS = auto()  # int32, in bytes, of each pixel's vector in a channel; negative where it has none
    SIZE = auto()


def _squares(back: bool) -> Any:
    @intrinsic
    def squares(_: Any, image: Any, apart: Any, place: Any, offsets: Any, pixels: Any) -> Any:
        """Copy one channel of LANES images, `apart` bytes from each other, to its pixels' vectors or `back`."""

        def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
            v, b = Vectors(builder), builder
            image, apart, place, offsets, pixels = args

            def square(index: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                mask = v.first(b.sub(pixels, b.mul(index, const(LANES))))
                rows = [v.at(b.add(image, b.mul(const(k), apart)), index, BYTES) for k in range(LANES)]
                columns = []
                for k in range(LANES):
                    offset = v.load(v.at(v.at(offsets, index, BYTES), k, 4), INT32)
                    full = b.select(b.icmp_signed("<", offset, ir.Constant(INT32, 0)), const(0), const(LANES))
                    columns.append((b.add(place, b.sext(offset, INT64)), v.first(full)))
                if back:
                    turned = v.transpose([v.masked(column, has) for column, has in columns])
                    for row, value in zip(rows, turned, strict=True):
                        v.store(value, row, mask)
                else:
                    turned = v.transpose([v.masked(row, mask) for row in rows])
                    for (column, has), value in zip(columns, turned, strict=True):
                        v.store(value, column, has)
                return []

            v.loop(const(0), b.sdiv(b.add(pixels, const(LANES - 1)), const(LANES)), [], square)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    return squares


to_sides, from_sides = _squares(False), _squares(True)


@c_function(void(int64, int64, int64, int64))
def spread(table: int, worker: int, first: int, end: int) -> None:
    """Copy images to their places; an item is a channel of LANES images."""
    channels, apart = peek(table, SideTable.CHANNELS), peek(table, SideTable.IMAGE_IMAGE)
    for item in range(first, end):
        image = peek(table, SideTable.IMAGE) + item // channels * LANES * apart
        image += item % channels * peek(table, SideTable.IMAGE_CHANNEL)
        place = peek(table, SideTable.PLACE) + item % channels * peek(table, SideTable.PLACE_CHANNEL)
        to_sides(image, apart, place, peek(table, SideTable.OFFSETS), peek(table, SideTable.PIXELS))


@c_function(void(int64, int64, int64, int64))
def collect(table: int, worker: int, first: int, end: int) -> None:
    """Copy images from their places, zeros for pixels that have none; an item is a channel of LANES images."""
    channels, apart = peek(table, SideTable.CHANNELS), peek(table, SideTable.IMAGE_IMAGE)
    for item in range(first, end):
        image = peek(table, SideTable.IMAGE) + item // channels * LANES * apart
        image += item % channels * peek(table, SideTable.IMAGE_CHANNEL)
        place = peek(table, SideTable.PLACE) + item % channels * peek(table, SideTable.PLACE_CHANNEL)
        from_sides(image, apart, place, peek(table, SideTable.OFFSETS), peek(table, SideTable.PIXELS))


def _copies(function: CFunction, rows: Axis, columns: Axis, images: np.ndarray, places: np.ndarray) -> Task:
    plane, pitch = places.strides[1], places.strides[2]
    down, across = _along(rows, len(columns.phases) * plane, pitch), _along(columns, plane, BYTES)
    offsets = np.add.outer(down, across)
    offsets[np.logical_or.outer(down < 0, across < 0)] = -1
    offsets = np.append(offsets.ravel(), [-1] * LANES).astype(np.int32)
    table, phases = np.zeros(SideTable.SIZE, np.int64), len(rows.phases) * len(columns.phases)
    table[SideTable.IMAGE : SideTable.PIXELS] = images.ctypes.data, *images.strides[:2]
    table[SideTable.PIXELS : SideTable.PLACE] = rows.size * columns.size, images.shape[1]
    table[SideTable.PLACE :] = places.ctypes.data, phases * plane, offsets.ctypes.data
    return Task(function, table, images.shape[1], keep=(images, places, offsets))


def _along(axis: Axis, phase: int, pixel: int) -> np.ndarray:
    """Each pixel's offset along an axis whose phases and pixels lie so many bytes apart; -1 if no phase has it."""
    pixels = np.arange(axis.size)
    offsets = np.searchsorted(axis.phases, pixels % axis.stride) * phase + pixels // axis.stride * pixel
    return np.where(np.isin(pixels % axis.stride, axis.phases), offsets, -1)


def spreading(rows: Axis, columns: Axis, images: np.ndarray, places: np.ndarray) -> Task:
    """The task that copies images (N, C, H, W), contiguous, to places (1, C · phases, H / s, W / s · LANES).

    Its items are the channels of the first LANES images; those of the next images follow.
    """
    return _copies(spread, rows, columns, images, places)


def collecting(rows: Axis, columns: Axis, images: np.ndarray, places: np.ndarray) -> Task:
    """The task that copies images from their places, likewise."""
    return _copies(collect, rows, columns, images, places)
