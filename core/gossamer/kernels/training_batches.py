"""Batches in training, on their way through a sparse layer and back: their scratch memory, tasks and programs.

New values go to the packed weights, then every thread takes images (or rows, for a matrix) through the layer in scratch
memory of its own. Gradients to the values are summed in SLOTS slots, each of images in their order, so that results are
the same for every number of threads.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from gossamer.kernels import training_loops
from gossamer.kernels.geometry import Geometry, Walk, backward, phases_walk
from gossamer.kernels.layout import Floats, Layout, aligned
from gossamer.kernels.packing import Topology, Weights
from gossamer.kernels.simd import LANES
from gossamer.kernels.strips import Strips, blocked, bound_sections
from gossamer.kernels.tasks import Program, Task, in_turn
from gossamer.kernels.tiles import SectionTable
from gossamer.kernels.training_loops import Gather, Inner, Slots

SLOTS = 8  # sums of gradients that threads can work on at the same time
RUN = 1024  # values that a thread takes at a time


class Scratch:
    """A worker's memory for one image on its way, or `lanes` of them: phases, output, and the gradients to both."""

    def __init__(self, geometry: Geometry, size: Sequence[int], lanes: int):
        rows, columns = geometry.axes(size)
        columns = replace(columns, lanes=lanes)
        self.rows, self.columns, self.geometry = rows, columns, geometry
        phases, pitch = len(rows.phases) * len(columns.phases), max(columns.split, columns.output) + columns.halo
        if rows.size == 1:
            pitch = -(-pitch // LANES) * LANES
        self.inner_layout = Layout(
            (1, geometry.channels * phases, rows.split, columns.split * lanes),
            (rows.halo, (pitch - columns.split) * lanes),
        )
        self.outer_layout = Layout(
            (1, geometry.shape[0], rows.output, columns.output * lanes),
            (rows.halo + max(0, rows.split - rows.output), (pitch - columns.output) * lanes),
        )
        self.x, self.y = (layout.view(aligned(layout.size)) for layout in (self.inner_layout, self.outer_layout))

    @cached_property
    def gradient(self) -> np.ndarray:
        """The gradient to x, in x's own memory unless it would fill the room that phases of unlike sizes leave zero."""
        if self.rows.stride == self.columns.stride == 1:
            return self.x
        return self.inner_layout.view(aligned(self.inner_layout.size))

    @cached_property
    def forward_walk(self) -> Walk:
        """The walk over the phases."""
        return phases_walk(self.rows, self.columns, self.geometry.shape[1], self.inner_layout)

    @cached_property
    def backward_walk(self) -> Walk:
        """The walk over the gradient to the output."""
        outputs, layout = self.geometry.shape[0] // self.geometry.groups, self.outer_layout
        return backward(self.rows, self.columns, outputs, layout.pitch, layout.plane)


class Packed:
    """Weights of a pass with the tables of their sections, and the tasks that bring new values to them."""

    def __init__(self, weights: Weights):
        self.weights, self.sections = weights, bound_sections(weights)
        self.gathers: list[Task] = []
        self.bias_gathers: list[Task] = []
        self.places: list[tuple[np.ndarray, int]] = []  # where the address of the values goes
        for section, bound in zip(weights.sections, self.sections, strict=True):
            self.bias_gathers.append(_gathering(section.channels, bound.bias, weights.shape[0]))
            if section.in_order:  # read where they are
                self.places.append((bound.table, SectionTable.VALUES))
                continue
            self.gathers.append(_gathering(section.source, section.values, weights.nonzeros))
            self.places.append((self.gathers[-1].table, Gather.VALUES))
        self.has_bias = False

    def forget_bias(self) -> None:
        """Have no bias, after the one of a call before."""
        if self.has_bias:
            for bound in self.sections:
                bound.bias[...] = 0


def _gathering(source: np.ndarray, target: np.ndarray, count: int) -> Task:
    """The task that sets the target to those of `count` values that the source (int32) numbers, and to 0 elsewhere."""
    table = np.zeros(len(Gather), np.int64)
    table[Gather.SOURCE], table[Gather.TARGET] = source.ctypes.data, target.ctypes.data
    table[Gather.COUNT], table[Gather.RUN], table[Gather.SIZE] = count, RUN, source.size
    return Task(training_loops.gather, table, -(-source.size // RUN), keep=(source, target))


Series = list[tuple[Task, int]]


class Batch:
    """A batch on its way through a layer and back: each worker's scratch memory, and the programs.

    Where there are fewer images than threads, the threads work together on one image after the other.
    """

    lanes = 1
    """how many images go side by side, and count as one"""

    def __init__(self, topology: Topology, x: Sequence[int], y: Sequence[int], threads: int):
        self.topology, self.key, self.threads = topology, (x, threads), threads
        self.x, self.y = _shaped(x), _shaped(y)
        self.images, size = self.split(self.x)
        self.is_shared = self.images < threads
        workers = 1 if self.is_shared else threads
        self.scratches = [Scratch(topology.geometry, size, self.lanes) for _ in range(workers)]
        self.per_slot = -(-self.images // SLOTS)
        self.slots = -(-self.images // self.per_slot)
        self.places: dict[str, list[tuple[np.ndarray, int]]] = {}
        self.forwards: dict[bool, Program] = {}
        self.backwards: dict[tuple[bool, bool, bool], Program] = {}

    def split(self, x: np.ndarray) -> tuple[int, tuple[int, int]]:
        """How many images x is, and their (rows, columns)."""
        raise NotImplementedError

    def enter(self, scratch: Scratch, name: str) -> tuple[Task, int]:
        """The task that copies "x" or the gradient to the output, "y", to scratch memory, and an image's items."""
        raise NotImplementedError

    def leave(self, scratch: Scratch, name: str) -> tuple[Task, int]:
        """The task that copies the output, "y", or the gradient to the input, "to_x", from scratch memory."""
        raise NotImplementedError

    def place(self, name: str, table: np.ndarray, column: int) -> None:
        """Have the address of what is called `name` written to a table's column before each run."""
        self.places.setdefault(name, []).append((table, column))

    def run(self, program: Program, **arrays: Floats | None) -> None:
        """Run a program on these."""
        for name, array in arrays.items():
            if array is not None:
                for table, column in self.places.get(name, ()):
                    table[column] = array.address
        program()

    @cached_property
    def forward_weights(self) -> Packed:
        """The weights of the forward pass."""
        return self._packed(self.topology.weights(), self.scratches[0].forward_walk)

    @cached_property
    def backward_weights(self) -> Packed:
        """The weights of the gradient to the input."""
        first = self.scratches[0]
        return self._packed(self.topology.reverse(first.rows, first.columns), first.backward_walk)

    def _packed(self, weights: Weights, walk: Walk) -> Packed:
        packed = Packed(blocked(weights, walk))
        for task in packed.bias_gathers:
            self.place("bias", task.table, Gather.VALUES)
        for table, column in packed.places:
            self.place("values", table, column)
        return packed

    def _strips(self, packed: Packed, walk: Walk, x: np.ndarray, y: np.ndarray) -> tuple[Task, int]:
        threads = self.threads if self.is_shared else 1
        return Strips(packed.weights, walk, x, y, threads=threads, sections=packed.sections).task, 0

    def _rounds(self, series: list[Series], per_item: int = 1) -> list[Task]:
        """The tasks that take each image through a series, of which every worker has one."""
        if not self.is_shared:
            return [in_turn(series, self.images, per_item)]
        return [task._replace(first=image * stride) for image in range(self.images) for task, stride in series[0]]

    def forward(self, bias: bool) -> Program:
        """x to y, with a bias or without one."""
        packed = self.forward_weights
        packed.forget_bias()
        found = self.forwards.get(bias)
        if found is None:
            series = [
                [self.enter(s, "x"), self._strips(packed, s.forward_walk, s.x, s.y), self.leave(s, "y")]
                for s in self.scratches
            ]
            tasks = packed.gathers + (packed.bias_gathers if bias else []) + self._rounds(series)
            found = self.forwards[bias] = Program(tasks, self.threads, beside_torch=True)
        packed.has_bias = bias
        return found

    def backward(self, to_x: bool, to_values: bool, onto: bool = False) -> Program:
        """The gradient to y to those to x and to the values, or, of one slot, onto the latter."""
        key = to_x, to_values, onto
        found = self.backwards.get(key)
        if found is None:
            found = self.backwards[key] = Program(self._backward(*key), self.threads, beside_torch=True)
        return found

    def _backward(self, to_x: bool, to_values: bool, onto: bool) -> list[Task]:
        tasks = list(self.backward_weights.gathers) if to_x else []
        series: list[Series] = [[self.enter(s, "y")] for s in self.scratches]
        for scratch, parts in zip(self.scratches, series, strict=True):
            if to_x:
                parts.append(self._strips(self.backward_weights, scratch.backward_walk, scratch.y, scratch.gradient))
                parts.append(self.leave(scratch, "to_x"))
            if to_values:
                parts += [self.enter(scratch, "x"), self._products(scratch)]
        if not to_values:
            return tasks + self._rounds(series)
        runs = -(-len(self.topology.positions) // RUN)
        clear = [] if onto else [Task(training_loops.clear_slots, self.slots_table, runs, keep=self)]
        total = [Task(training_loops.sum_slots, self.slots_table, runs)] if self.slots > 1 else []
        return [*tasks, *clear, *self._rounds(series, self.per_slot), *total]

    @cached_property
    def slots_table(self) -> np.ndarray:
        """The table of the slots; a single one is the result itself."""
        size = len(self.topology.positions)
        table = np.zeros(len(Slots), np.int64)
        table[Slots.SLOTS], table[Slots.RUN], table[Slots.SIZE] = self.slots, RUN, size
        self.sums = np.empty(self.slots * size if self.slots > 1 else 0, np.float32)
        table[Slots.PARTS] = self.sums.ctypes.data
        for column in (Slots.RESULT,) if self.slots > 1 else (Slots.PARTS, Slots.RESULT):
            self.place("to_values", table, column)
        return table

    @cached_property
    def places_of_values(self) -> tuple[np.ndarray, np.ndarray]:
        """For each output channel its first non-zero, and for each non-zero the offset of its input."""
        (outputs, *rest), walk = self.topology.geometry.shape, self.scratches[0].forward_walk
        channel, position = np.divmod(self.topology.positions, int(np.prod(rest)))
        part = channel // max(1, outputs // self.topology.geometry.groups)
        starts = np.searchsorted(channel, np.arange(outputs + 1)).astype(np.int64)
        return starts, (walk.offset[position] + part * walk.part).astype(np.int32)

    def _products(self, scratch: Scratch) -> tuple[Task, int]:
        """The task that adds to the gradient to the values what x and the gradient to y in scratch memory give."""
        starts, offsets = self.places_of_values
        table, outputs = np.zeros(len(Inner), np.int64), self.topology.geometry.shape[0]
        table[Inner.X], table[Inner.GRADIENT] = scratch.x.ctypes.data, scratch.y.ctypes.data
        table[Inner.GRADIENT_CHANNEL] = scratch.y.strides[1]
        table[Inner.VECTORS], table[Inner.CHANNELS] = -(-scratch.forward_walk.pixels // LANES), outputs
        table[Inner.STARTS], table[Inner.OFFSETS] = starts.ctypes.data, offsets.ctypes.data
        table[Inner.RESULT_SLOT], table[Inner.PER_SLOT] = 4 * len(offsets), self.per_slot
        if self.slots > 1:
            table[Inner.RESULT] = self.slots_table[Slots.PARTS]
        else:
            self.place("to_values", table, Inner.RESULT)
        return Task(training_loops.products, table, outputs, keep=(scratch, starts, offsets)), outputs


def _shaped(shape: Sequence[int]) -> np.ndarray:
    """What has a contiguous array's shape and strides, but no memory of that size; it is never read."""
    strides = tuple(4 * int(np.prod(shape[k + 1 :])) for k in range(len(shape)))
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape, strides)
