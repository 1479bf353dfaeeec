"""A convolution bound to any images: copies to and from the memory that the kernel wants, where they are needed."""

from typing import Any

import numpy as np

from gossamer.kernels.activation import Activation
from gossamer.kernels.copies import merging, plain, splitting
from gossamer.kernels.geometry import Geometry, Walk, forward, phases_walk, split_layout
from gossamer.kernels.layout import Layout, aligned, halo
from gossamer.kernels.packing import Weights
from gossamer.kernels.simd import LANES
from gossamer.kernels.strips import Strips, blocked
from gossamer.kernels.tasks import Task

TOGETHER = 1 << 16  # floats of scratch memory that images are copied to at a time; from `core/benchmarks/tuning.py`


def packed(weights: Weights, geometry: Geometry, size: tuple[int, int]) -> Weights:
    """The weights in the order that suits images of `size` (H, W)."""
    rows, columns = geometry.axes(size)
    layout = split_layout(rows, columns, geometry.channels)
    return blocked(weights, phases_walk(rows, columns, geometry.shape[1], layout))


def bind(
    weights: Weights,
    geometry: Geometry,
    activation: Activation,
    x: np.ndarray,
    out: np.ndarray,
    residual: np.ndarray | None,
    threads: int,
) -> list[Task]:
    """The tasks that run a convolution on x, out and residual (all NCHW, rows contiguous).

    Where the input lies as the kernel wants it, with halo and with the output's pitch, it is read in place. Otherwise
    images are first copied to scratch memory, split into phases; results of another pitch go to scratch memory, too.
    """
    if is_in_place(geometry, x, out, residual):
        walk = forward(*geometry.axes(x.shape[2:]), geometry.shape[1], _pitch(x), x.strides[1] // 4, 0)
        return [Strips(weights, walk, x, out, residual, activation, threads).task]
    rows, columns = geometry.axes(x.shape[2:])
    one = split_layout(rows, columns, geometry.channels, _pitch(out))
    together = max(1, min(len(x), TOGETHER // one.size))
    layout = split_layout(rows, columns, geometry.channels, _pitch(out), together)
    phases = layout.view(aligned(layout.size))
    walk = phases_walk(rows, columns, geometry.shape[1], layout)
    flat = Layout((together, out.shape[1], rows.output, columns.output), (0, layout.pitch - columns.output))
    apart = [array is not None and _pitch(array) != layout.pitch for array in (out, residual)]
    result = flat.view(aligned(flat.size)) if any(apart) else None
    other = None if result is None or residual is None else flat.view(aligned(flat.size))
    tasks = []
    for start in range(0, len(x), together):
        some = slice(start, start + together)
        count = len(x[some])
        tasks.append(splitting(rows, columns, x[some], phases[:count]))
        target, added = out[some], None if residual is None else residual[some]
        if result is not None:
            target = result[:count]
        if added is not None and other is not None:
            tasks.append(splitting(*plain(added), added, other[:count]))
            added = other[:count]
        tasks.append(Strips(weights, walk, phases[:count], target, added, activation, threads).task)
        if result is not None:
            tasks.append(merging(*plain(out), out[some], result[:count]))
    return tasks


def is_in_place(geometry: Geometry, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None) -> bool:
    """Say whether the kernel can read and write these images where they lie."""
    if geometry.stride != (1, 1) or any(_pitch(a) != _pitch(x) for a in (out, residual) if a is not None):
        return False
    around: Any = halo(x)
    if around is None:
        walk: Walk = forward(*geometry.axes(x.shape[2:]), 1, _pitch(x), 0, 0)
        vectors = -(-walk.pixels // LANES) * LANES
        inside = vectors + walk.reach <= (x.shape[2] - 1) * walk.pitch + x.shape[3]
        return geometry.padding == (0, 0) and inside
    return all(have >= want for have, want in zip(around, geometry.padding, strict=True))


def _pitch(array: np.ndarray) -> int:
    return array.strides[2] // 4
