"""Sparse layers that train: forward and both gradients, for values that change at every call.

Each pass over a batch is one program, which `training_batches` puts together.
"""

import threading
from collections.abc import Sequence

import numpy as np

from gossamer.kernels.geometry import Geometry
from gossamer.kernels.layout import Floats
from gossamer.kernels.linear_layer import ROWS
from gossamer.kernels.packing import Topology
from gossamer.kernels.training_batches import Batch
from gossamer.kernels.training_images import kind

KEPT = 4  # sizes of inputs whose scratch memory a layer keeps


class Structure(Topology):
    """A topology with the batches that went through it, whose programs and memory serve again.

    Calls may come from several threads at once: each takes scratch memory of its own.
    """

    def __init__(self, positions: np.ndarray, geometry: Geometry):
        super().__init__(positions, geometry)
        self.idle: dict[tuple, list[Batch]] = {}
        self.lock = threading.Lock()

    def batch(self, x: Sequence[int], y: Sequence[int], threads: int) -> Batch:
        """Programs and scratch memory for inputs and outputs of these shapes, to be given back."""
        key = (x, threads)
        with self.lock:
            idle = self.idle.pop(key, [])
            if idle:
                batch = idle.pop()
                if idle:
                    self.idle[key] = idle
                return batch
        return kind(x, y)(self, x, y, threads)

    def give(self, batch: Batch) -> None:
        """Take programs and scratch memory back."""
        with self.lock:
            self.idle.setdefault(batch.key, []).append(batch)
            while len(self.idle) > KEPT:
                del self.idle[next(iter(self.idle))]


def convolve(
    structure: Structure, values: Floats, bias: Floats | None, x: Floats, out: Floats, threads: int = 1
) -> None:
    """Set out (N, O, OH, OW) to the convolution of x (N, I, H, W) with `values` (non-zeros,) plus bias (O,) or None."""
    if x.shape[0]:
        batch = structure.batch(x.shape, out.shape, threads)
        batch.run(batch.forward(bias is not None), values=values, bias=bias, x=x, y=out)
        structure.give(batch)


def convolve_back(
    structure: Structure,
    values: Floats,
    x: Floats,
    gradient: Floats,
    to_x: Floats | None,
    to_values: Floats | None,
    threads: int = 1,
    onto: bool = False,
) -> None:
    """Set `to_x` (N, I, H, W) and `to_values` (non-zeros,), each unless None, from the gradient (N, O, OH, OW).

    N is not 0. `onto` adds to `to_values`, and is for one image, or for up to ROWS rows.
    """
    batch = structure.batch(x.shape, gradient.shape, threads)
    program = batch.backward(to_x is not None, to_values is not None, onto)
    batch.run(program, values=values, x=x, y=gradient, to_x=to_x, to_values=to_values)
    structure.give(batch)


def multiply(
    structure: Structure, values: Floats, bias: Floats | None, x: Floats, out: Floats, threads: int = 1
) -> None:
    """Set out (N, O) to x (N, I) times the transposed weight (O, I, 1, 1) with `values`, plus bias (O,) or None."""
    for some in _parts(x.shape[0]):
        convolve(structure, values, bias, x.part(*some), out.part(*some), threads)


def multiply_back(
    structure: Structure,
    values: Floats,
    x: Floats,
    gradient: Floats,
    to_x: Floats | None,
    to_values: Floats | None,
    threads: int = 1,
) -> None:
    """Set `to_x` (N, I) and `to_values` (non-zeros,), each unless None, from the gradient (N, O); N is not 0."""
    for some in _parts(x.shape[0]):
        back = None if to_x is None else to_x.part(*some)
        some_x, some_gradient = x.part(*some), gradient.part(*some)
        convolve_back(structure, values, some_x, some_gradient, back, to_values, threads, onto=some[0] > 0)


def _parts(rows: int) -> list[tuple[int, int]]:
    """The first row, and that after the last, of what makes whole images of ROWS, and of the rest."""
    whole = rows - rows % ROWS
    return [(start, stop) for start, stop in ((0, whole), (whole, rows)) if start < stop]
