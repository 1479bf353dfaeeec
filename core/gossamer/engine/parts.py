"""A graph prepared several times, once for each of the threads that share a larger batch."""

from typing import Any

import numpy as np

from gossamer.engine.prepared import Prepared
from gossamer.kernels.copies import CopyTable, merging, plain, splitting
from gossamer.kernels.tasks import Program, Task, in_turn


class Parts:
    """A graph prepared once for each thread, all of it compiled: the threads take parts of a batch in turn.

    A part's inputs are copied to its thread's buffers, and what comes out from there, by the same program.
    """

    def __init__(self, workers: list[Prepared]):
        self.workers, self.size = workers, len(workers[0].inputs[0])
        self.kept: tuple[int, Any, list[list[np.ndarray]]] | None = None

    def run(self, arrays: list[np.ndarray], count: int) -> dict[str, np.ndarray]:
        """Return the outputs for the first `count` parts of these inputs."""
        first = self.workers[0]
        arrays = [np.ascontiguousarray(array[: count * self.size]) for array in arrays]
        results = {name: np.empty((count * self.size, *v.shape[1:]), np.float32) for name, v in first.outputs.items()}
        given = [*arrays, *results.values()]
        if self.kept is None or self.kept[0] != count:
            self.kept = self._program(given, count)
        _, program, tables = self.kept
        for array, places in zip(given, tables, strict=True):
            for table in places:
                table[CopyTable.IMAGE] = array.ctypes.data
        program()
        return results

    def _program(self, given: list[np.ndarray], count: int) -> tuple[int, Any, list[list[np.ndarray]]]:
        """Return the count, its program, and the tables of copies that each array's address belongs in."""
        tables: list[list[np.ndarray]] = [[] for _ in given]
        series: list[list[tuple[Task, int]]] = []
        for worker in self.workers:
            values = [*worker.inputs, *worker.outputs.values()]
            before, after = [], []
            for k, (array, value) in enumerate(zip(given, values, strict=True)):
                enters = k < len(worker.inputs)
                images, here = _as_images(_like(array)), _as_images(value)
                task = (splitting if enters else merging)(*plain(here), images, here)
                items = self.size * here.shape[1]
                (before if enters else after).append((task._replace(items=items), items))
                tables[k].append(task.table)
            steps: Any = worker.steps[0]
            series.append([*before, *((task, 0) for task in steps.tasks), *after])
        return count, Program([in_turn(series, count)], len(self.workers)), tables


def _like(array: np.ndarray) -> np.ndarray:
    """Return what has a contiguous array's shape, but not its memory."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), array.shape, array.strides)


def _as_images(array: np.ndarray) -> np.ndarray:
    """Return an array that is no image as one row for each of the batch."""
    if array.ndim == 4:
        return array
    shape, strides = (len(array), 1, 1, array[0].size), (array.strides[0], 4, 4, 4)
    return np.lib.stride_tricks.as_strided(array, shape, strides)
