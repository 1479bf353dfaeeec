"""Sparse layers that train: forward and both gradients, for values that change at every call.

Each pass over a batch is one program, which `training_batches` puts together.
"""

import threading
from typing import Any

import numpy as np

from gossamer.kernels.geometry import Geometry
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

    def batch(self, x: np.ndarray, y: np.ndarray, threads: int) -> Batch:
        """Programs and scratch memory for inputs and outputs like these, to be given back."""
        key = (x.shape, threads)
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
    structure: Structure, values: np.ndarray, bias: np.ndarray | None, x: np.ndarray, out: np.ndarray, threads: int = 1
) -> None:
    """Set out (N, O, OH, OW) to the convolution of x (N, I, H, W) with `values` (non-zeros,), plus bias (O,) or None.

    All arrays are contiguous.
    """
    if len(x):
        batch = structure.batch(x, out, threads)
        batch.forward_weights.set_bias(bias)
        batch.run(batch.forward, values=values, x=x, y=out)
        structure.give(batch)


def convolve_back(
    structure: Structure,
    values: np.ndarray,
    x: np.ndarray,
    gradient: np.ndarray,
    to_x: np.ndarray | None,
    to_values: np.ndarray | None,
    threads: int = 1,
) -> None:
    """Set `to_x` (N, I, H, W) and `to_values` (non-zeros,), each unless None, from the gradient (N, O, OH, OW)."""
    if not len(x):
        if to_values is not None:
            to_values[...] = 0
        return
    if to_x is not None and any(len(a.phases) < a.stride for a in structure.geometry.axes(x.shape[2:])):
        to_x[...] = 0  # pixels that no kernel position meets
    batch = structure.batch(x, gradient, threads)
    program = batch.backward(to_x is not None, to_values is not None)
    batch.run(program, values=values, x=x, y=gradient, to_x=to_x, to_values=to_values)
    structure.give(batch)


def multiply(
    structure: Structure, values: np.ndarray, bias: np.ndarray | None, x: np.ndarray, out: np.ndarray, threads: int = 1
) -> None:
    """Set out (N, O) to x (N, I) times the transposed weight (O, I, 1, 1) with `values`, plus bias (O,) or None."""
    for some in _parts(len(x)):
        convolve(structure, values, bias, x[some], out[some], threads)


def multiply_back(
    structure: Structure,
    values: np.ndarray,
    x: np.ndarray,
    gradient: np.ndarray,
    to_x: np.ndarray | None,
    to_values: np.ndarray | None,
    threads: int = 1,
) -> None:
    """Set `to_x` (N, I) and `to_values` (non-zeros,), each unless None, from the gradient (N, O) to the output."""
    if to_values is not None and not len(x):
        to_values[...] = 0
    for some in _parts(len(x)):
        grown: Any = to_values if to_values is None or some.start == 0 else np.empty_like(to_values)
        batch = structure.batch(x[some], gradient[some], threads)
        program = batch.backward(to_x is not None, to_values is not None)
        back = None if to_x is None else to_x[some]
        batch.run(program, values=values, x=x[some], y=gradient[some], to_x=back, to_values=grown)
        structure.give(batch)
        if to_values is not None and some.start:
            to_values += grown


def _parts(rows: int) -> list[slice]:
    """The rows that make whole images of ROWS, and the rest."""
    whole = rows - rows % ROWS
    return [part for part in (slice(0, whole), slice(whole, rows)) if part.start < part.stop]
