"""A linear layer bound to rows: few of them one by one, more as the pixels of an image."""

import numpy as np

from gossamer.kernels import product_loops
from gossamer.kernels.binding import bind
from gossamer.kernels.convolution import Convolution
from gossamer.kernels.layout import Layout, Scratch, aligned
from gossamer.kernels.linear_layer import ROWS
from gossamer.kernels.packing import first_channels
from gossamer.kernels.product_loops import ROOM, ProductPlan, Transposition
from gossamer.kernels.simd import LANES
from gossamer.kernels.strips import bound_sections, set_activation
from gossamer.kernels.tasks import Task


def one_by_one(
    convolution: Convolution, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None, threads: int
) -> list[Task]:
    """The matrix-vector kernel on every row."""
    weights, activation = convolution.weights, convolution.activation
    sums = aligned(threads * ROOM // 4)
    first = first_channels(weights.shape[1], weights.blocks).astype(np.int32)
    mask = np.array([1] + 7 * [0], np.uint8)
    tasks = []
    for section, bound in zip(weights.sections, bound_sections(weights), strict=True):
        plan = np.zeros(len(ProductPlan), np.int64)
        plan[ProductPlan.X : ProductPlan.RESIDUAL] = x.ctypes.data, x.strides[0], out.ctypes.data, out.strides[0]
        if residual is not None:
            plan[ProductPlan.RESIDUAL : ProductPlan.ROWS] = residual.ctypes.data, residual.strides[0]
        plan[ProductPlan.ROWS], plan[ProductPlan.SECTION] = len(x), bound.table.ctypes.data
        plan[ProductPlan.BLOCKS], plan[ProductPlan.FIRST] = weights.blocks, first.ctypes.data
        plan[ProductPlan.SUMS], plan[ProductPlan.MASK] = sums.ctypes.data, mask.ctypes.data
        set_activation(plan, ProductPlan, activation)
        keep = (weights, bound, sums, first, mask, x, out, residual)
        tasks.append(Task(product_loops.products, plan, section.groups * len(x), keep=keep))
    return tasks


def together(
    convolution: Convolution,
    x: np.ndarray,
    out: np.ndarray,
    residual: np.ndarray | None,
    threads: int,
    scratch: Scratch,
) -> list[Task]:
    """The convolution kernel: features are channels, rows of input are the pixels of an image one pixel high."""
    tasks, size = [], min(len(x), ROWS)
    columns, result, added = _images(convolution, size, residual is not None, scratch)
    for start in range(0, len(x), size):
        some = slice(start, min(len(x), start + size))
        if some.stop - start < size:
            columns, result, added = _images(convolution, some.stop - start, residual is not None, scratch)
        tasks.append(transposing(x[some], columns[0, :, 0]))
        if residual is not None and added is not None:
            tasks.append(transposing(residual[some], added[0, :, 0]))
        weights, geometry = convolution.weights, convolution.geometry
        tasks += bind(weights, geometry, convolution.activation, columns, result, added, threads)
        tasks.append(transposing(result[0, :, 0], out[some]))
    return tasks


def _images(
    convolution: Convolution, rows: int, is_added: bool, scratch: Scratch
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Images of so many pixels for the input, the output and, if asked, the residual."""
    outputs, inputs = convolution.shape[:2]
    x, out = Layout((1, inputs, 1, rows)), Layout((1, outputs, 1, rows))
    images = scratch.take(x, out, *([out] if is_added else []))
    return images[0], images[1], images[2] if is_added else None


def transposing(source: np.ndarray, target: np.ndarray) -> Task:
    """The task that copies a matrix (rows, columns) or several (N, rows, columns) to its, or their, transposes."""
    matrices = len(source) if source.ndim == 3 else 1
    rows, columns = source.shape[-2:]
    pitch, target_pitch = source.strides[-2], target.strides[-2]
    strips = -(-(columns if target_pitch > pitch else rows) // LANES)
    table = np.zeros(len(Transposition), np.int64)
    for column, array in ((Transposition.SOURCE, source), (Transposition.TARGET, target)):
        table[column : column + 3] = array.ctypes.data, array.strides[0] if array.ndim == 3 else 0, array.strides[-2]
    table[Transposition.ROWS :] = rows, columns, strips
    return Task(product_loops.transpose, table, matrices * strips, keep=(source, target))
