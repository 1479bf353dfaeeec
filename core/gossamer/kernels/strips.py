"""A packed weight bound to images that lie as the kernel wants them."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gossamer.kernels import strip_loops, tasks
from gossamer.kernels.activation import Activation
from gossamer.kernels.geometry import Walk
from gossamer.kernels.layout import LINE, aligned
from gossamer.kernels.packing import Weights, first_channels
from gossamer.kernels.product_loops import ProductPlan
from gossamer.kernels.simd import LANES
from gossamer.kernels.target import target
from gossamer.kernels.tiles import Chunk, SectionTable, StripPlan

# What follows was found by `core/benchmarks/tuning.py`, which measures the layers of a ResNet-50 with other values.
CACHE = 512 * LINE  # floats of input that a tile may keep in the first-level cache
LEAST = {1: 14, 2: 20, 4: 36, 8: 36}  # non-zeros of a group that one block of input channels should hold
NONE = Activation()
WIDE = 8  # sums, in vectors, of the narrowest band: as many as the processor adds to at a time
CHUNK = 1 << 18  # bytes of weights that stay in the second-level cache while tiles go by


class Strips:
    """The kernel on x and out (NCHW, rows `walk.pitch` apart, x with its halo); a residual lies as out does.

    `task` does the work; its items are chunks of groups on tiles of images.
    """

    def __init__(
        self,
        weights: Weights,
        walk: Walk,
        x: np.ndarray,
        out: np.ndarray,
        residual: np.ndarray | None = None,
        activation: Activation = NONE,
        threads: int = 1,
        sections: "list[BoundSection] | None" = None,
    ):
        self.weights, self.walk, self.threads, self.images = weights, walk, threads, len(x)
        self.sections = bound_sections(weights) if sections is None else sections
        self.keep: list[np.ndarray | None] = [x, out, residual]
        self.vectors = -(-walk.pixels // LANES)
        self.bands, self.tiles = self._bands()
        self.tile = -(-self.vectors // self.tiles)
        self.band = self.images * self.tiles // self.bands
        self.chunks = np.array(self._chunks(), np.int64).reshape(-1, len(Chunk))
        self.plan = self._plan(x, out, residual, activation)
        items = len(self.chunks) * self.band * self.bands
        self.task = tasks.Task(strip_loops.strips, self.plan, items, keep=self)

    def _bands(self) -> tuple[int, int]:
        """How many bands of pixels, one after the other, and how many tiles in an image.

        Each thread has bands of its own, if they are then wide enough; otherwise threads share out the chunks, too.
        """
        least = -(-WIDE // _biggest(self.weights))
        most = self.images * self.vectors // least
        bands = max(n for n in range(1, self.threads + 1) if n == 1 or (self.threads % n == 0 and n <= most))
        apart = 1 if self.images % bands == 0 else bands
        return bands, apart * -(-self.vectors // (apart * widest(self.weights)))

    def _chunks(self) -> list[tuple[int, int, int]]:
        chunks = []
        wanted = 0  # pieces of a section, so that no thread waits for long
        if self.threads > 1:
            wanted = -(-self.threads * tasks.PIECES // max(1, self.bands * self.band))
        for section, (table, _) in zip(self.weights.sections, self.sections, strict=True):
            pieces = max(math.ceil(section.bytes / CHUNK) if self.band > 1 else 1, wanted)
            cuts = np.linspace(0, section.groups, min(pieces, section.groups) + 1).astype(int)
            chunks += [(table.ctypes.data, int(a), int(b)) for a, b in pairwise(cuts)]
        return chunks

    def _plan(self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None, activation: Activation) -> np.ndarray:
        weights, walk, blocks = self.weights, self.walk, self.weights.blocks
        masks = walk.masks(LANES)
        first = (first_channels(weights.shape[1], blocks) * weights.shape[2]).astype(np.int32)
        room = len(weights.bias) * self.tile * LANES if blocks > 1 else LINE
        partial = aligned(self.threads * room)
        plan = np.zeros(len(StripPlan), np.int64)
        plan[StripPlan.X : StripPlan.OUT] = x.ctypes.data, x.strides[0]
        plan[StripPlan.OUT : StripPlan.RESIDUAL] = out.ctypes.data, *out.strides[:2]
        if residual is not None:
            plan[StripPlan.RESIDUAL : StripPlan.MASKS] = residual.ctypes.data, *residual.strides[:2]
        plan[StripPlan.MASKS], plan[StripPlan.CHUNKS] = masks.ctypes.data, self.chunks.ctypes.data
        plan[StripPlan.VECTORS : StripPlan.CHUNK_COUNT] = self.vectors, self.tile, self.tiles, self.band
        plan[StripPlan.CHUNK_COUNT] = len(self.chunks)
        plan[StripPlan.BLOCKS : StripPlan.PART] = blocks, walk.offset.ctypes.data, first.ctypes.data
        plan[StripPlan.PART] = 4 * walk.part
        plan[StripPlan.PARTIAL], plan[StripPlan.PARTIAL_WORKER] = partial.ctypes.data, 4 * room
        set_activation(plan, StripPlan, activation)
        self.keep += [masks, first, partial]
        return plan


def set_activation(table: np.ndarray, columns: type[StripPlan] | type[ProductPlan], activation: Activation) -> None:
    """Write an activation to the columns LOW, HIGH, ACTIVATION and SLOPE of a plan: a clamp is no function."""
    floats = table.view(np.float32)
    floats[2 * columns.LOW], floats[2 * columns.HIGH] = activation.bounds
    floats[2 * columns.SLOPE] = activation.slope
    table[columns.ACTIVATION] = 0 if activation.function.bounds else activation.number


class BoundSection(NamedTuple):
    """A section's table and its biases, which the table points to as it does to what the section holds."""

    table: np.ndarray
    bias: np.ndarray


def bound_sections(weights: Weights) -> list[BoundSection]:
    """The tables of all sections."""
    found, position = [], 0
    for section in weights.sections:
        bias = weights.bias[section.channels]
        table = np.zeros(len(SectionTable), np.int64)
        table[SectionTable.SIZE], table[SectionTable.GROUPS] = section.size, section.groups
        table[SectionTable.LANES], table[SectionTable.BIAS] = section.channels.ctypes.data, bias.ctypes.data
        table[SectionTable.POSITION], table[SectionTable.PARTS] = position, section.parts.ctypes.data
        lists = (section.starts, section.positions, section.values)
        table[SectionTable.STARTS :] = [array.ctypes.data for array in lists]
        found.append(BoundSection(table, bias))
        position += len(section.channels)
    return found


def widest(weights: Weights) -> int:
    """The most vectors of pixels that make a tile."""
    size = _biggest(weights)
    return target().vectors(size) * (2 if size == 8 else 1)


def blocked(weights: Weights, walk: Walk) -> Weights:
    """These weights, sorted by blocks of input channels that suit the walk.

    A tile's inputs are to stay in the first-level cache while all output channels use them, as far as a group then
    still has work in every block.
    """
    size, channels = _biggest(weights), weights.shape[1]
    section = next(section for section in weights.sections if section.size == size)
    vectors = -(-walk.pixels // LANES)
    tile = -(-vectors // -(-vectors // widest(weights)))
    blocks = math.ceil(channels * walk.footprint(tile * LANES) / CACHE)
    least = LEAST[size] * (2 if walk.lines == 1 else 1)
    blocks = min(blocks, len(section.positions) // section.groups // least, channels)
    return weights.in_blocks(max(weights.fewest(weights.shape), blocks))


def _biggest(weights: Weights) -> int:
    """The size of the groups that hold most of the values."""
    return max(weights.sections, key=lambda section: section.values.size).size
