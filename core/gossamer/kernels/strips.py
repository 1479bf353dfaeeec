"""A packed weight bound to images that lie as the kernel wants them."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from gossamer.kernels import programs
from gossamer.kernels.activation import ACTIVATIONS, Activation
from gossamer.kernels.geometry import Walk
from gossamer.kernels.layout import LINE, aligned
from gossamer.kernels.packing import Weights, first_channels
from gossamer.kernels.simd import LANES
from gossamer.kernels.target import target
from gossamer.kernels.threads import spread
from gossamer.kernels.tiles import Plan
from gossamer.kernels.tiles import Section as Table

CACHE = 512 * LINE  # floats of input that a tile may keep in the first-level cache
LEAST = {1: 14, 2: 20, 4: 36, 8: 36}  # non-zeros of a group that one block of input channels should hold
NONE = Activation()
CHUNK = 1 << 18  # bytes of weights that stay in the second-level cache while tiles go by


class Strips:
    """The kernel on x and out (NCHW, rows `walk.pitch` apart, x with its halo); a residual lies as out does."""

    def __init__(self, weights: Weights, walk: Walk, x, out, residual=None, activation=NONE, threads: int = 1):
        self.weights, self.walk, self.threads, self.images = weights, walk, threads, len(x)
        self.activation = activation
        self.keep: list[np.ndarray | None] = [x, out, residual]
        self.tile, self.blocks = tile(weights, walk)
        if self.blocks != weights.blocks:
            raise ValueError(f"the weights are sorted by {weights.blocks} blocks, the walk wants {self.blocks}")
        self.vectors = -(-walk.pixels // LANES)
        self.tiles = -(-self.vectors // self.tile)
        self.chunks = np.array(self._chunks(), np.int64).reshape(-1, 3)
        self.plan = self._plan(x, out, residual)
        self.call = self._call()

    def refresh(self, values: np.ndarray, bias: np.ndarray | None = None):
        """Take new values of the non-zeros and new biases, zeros if None."""
        self.weights.refresh(values)
        for section, place in zip(self.weights.sections, self.biases, strict=True):
            place[...] = 0 if bias is None else bias[section.channels]

    def _chunks(self) -> list[tuple[int, int, int]]:
        """Rows of (address of a section's table, first group, group after the last)."""
        chunks, tiles = [], self.tiles * self.images
        found, self.biases = tables(self.weights)
        self.keep += found
        for section, table in zip(self.weights.sections, found, strict=True):
            pieces = max(1, math.ceil(section.bytes / CHUNK)) if tiles > 1 else 1
            if tiles < self.threads:
                pieces = max(pieces, self.threads)
            cuts = np.linspace(0, section.groups, min(pieces, section.groups) + 1).astype(int)
            chunks += [(table.ctypes.data, int(a), int(b)) for a, b in pairwise(cuts)]
        return chunks

    def _plan(self, x, out, residual) -> np.ndarray:
        """The table that the program reads."""
        activation, masks, walk = self.activation, self.walk.masks(LANES), self.walk
        first = (first_channels(self.weights.shape[1], self.blocks) * self.weights.shape[2]).astype(np.int32)
        plan = np.zeros(len(Plan), np.int64)
        plan[Plan.X], plan[Plan.X_IMAGE] = x.ctypes.data, x.strides[0]
        plan[Plan.OUT : Plan.OUT_CHANNEL + 1] = out.ctypes.data, *out.strides[:2]
        if residual is not None:
            plan[Plan.RESIDUAL : Plan.RESIDUAL_CHANNEL + 1] = residual.ctypes.data, *residual.strides[:2]
        plan[Plan.MASKS], plan[Plan.CHUNKS] = masks.ctypes.data, self.chunks.ctypes.data
        plan[Plan.VECTORS], plan[Plan.TILE], plan[Plan.TILES] = self.vectors, self.tile, self.tiles
        plan[Plan.IMAGES], plan[Plan.BLOCKS] = self.images, self.blocks
        plan[Plan.OFFSETS], plan[Plan.FIRST], plan[Plan.PART] = (
            walk.offset.ctypes.data,
            first.ctypes.data,
            4 * walk.part,
        )
        low, high = activation.bounds
        floats = plan.view(np.float32)
        floats[2 * Plan.LOW], floats[2 * Plan.HIGH], floats[2 * Plan.SLOPE] = low, high, activation.slope
        plan[Plan.ACTIVATION] = 0 if low > -math.inf else ACTIVATIONS.index(activation.name)
        self.keep += [masks, first]
        return plan

    def _call(self) -> Callable[[], None]:
        items = len(self.chunks) * self.tiles * self.images
        workers = max(1, min(self.threads, items))
        size = len(self.weights.bias) * self.tile * LANES if self.blocks > 1 else LINE
        sums = [aligned(size) for _ in range(workers)]
        self.keep += sums
        program, plan, places = programs.strips.call, self.plan.ctypes.data, [s.ctypes.data for s in sums]
        if workers == 1:
            return partial(program, plan, places[0], 0, items)
        return partial(spread, lambda worker, first, last: program(plan, places[worker], first, last), items, workers)


def tables(weights: Weights) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The table of every section, and its biases, which the table points to as it does to what the section holds."""
    found, biases, position = [], [], 0
    for section in weights.sections:
        bias = weights.bias[section.channels]
        arrays = (section.channels, bias, section.parts, section.starts, section.positions, section.values)
        table = np.zeros(len(Table), np.int64)
        table[Table.SIZE], table[Table.GROUPS], table[Table.POSITION] = section.size, section.groups, position
        columns = (Table.LANES, Table.BIAS, Table.PARTS, Table.STARTS, Table.POSITIONS, Table.VALUES)
        for column, array in zip(columns, arrays, strict=True):
            table[column] = array.ctypes.data
        found.append(table)
        biases.append(bias)
        position += len(section.channels)
    return found, biases


def tile(weights: Weights, walk: Walk) -> tuple[int, int]:
    """How many vectors of pixels to make a tile of, and into how many blocks to split the input channels.

    A tile's inputs are to stay in the first-level cache while all output channels use them, as far as a group then
    still has work in every block.
    """
    vectors, channels = -(-walk.pixels // LANES), weights.shape[1]
    biggest = max(weights.sections, key=lambda section: section.values.size)
    widest = target().vectors(biggest.size) * (2 if biggest.size == 8 else 1)
    size = -(-vectors // -(-vectors // widest))
    blocks = math.ceil(channels * walk.footprint(size * LANES) / CACHE)
    least = LEAST[biggest.size] * (2 if walk.lines == 1 else 1)
    blocks = min(blocks, len(biggest.positions) // biggest.groups // least, channels)
    return size, max(weights.fewest(weights.shape), blocks)
