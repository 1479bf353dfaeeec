"""A packed weight bound to images that lie as the kernel wants them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from gossamer.kernels import programs
from gossamer.kernels.activation import ACTIVATIONS, Activation
from gossamer.kernels.geometry import Walk
from gossamer.kernels.layout import LINE, aligned
from gossamer.kernels.packing import Section
from gossamer.kernels.simd import LANES
from gossamer.kernels.target import target
from gossamer.kernels.threads import spread
from gossamer.kernels.tiles import Plan
from gossamer.kernels.tiles import Section as Table

CACHE = 512 * LINE  # floats of input that a tile may keep in the first-level cache
LEAST = {1: 14, 2: 20, 4: 36, 8: 36}  # non-zeros of a group that one block of input channels should hold
CHUNK = 1 << 18  # bytes of weights that stay in the second-level cache while tiles go by


@dataclass
class Weights:
    """Output channels in sections, the values of the non-zeros with a zero behind them, biases and the activation."""

    sections: list[Section]
    values: np.ndarray
    bias: np.ndarray
    activation: Activation = field(default_factory=Activation)
    parts: int = 1  # of channels, with inputs of their own
    packed: dict[tuple, list["Packed"]] = field(default_factory=dict)

    def pack(self, walk: Walk, blocks: int) -> list["Packed"]:
        """The sections in the order of the kernel."""
        key = (walk.key, blocks)
        if key not in self.packed:
            self.packed[key] = [Packed.of(section, self, walk, blocks) for section in self.sections]
        return self.packed[key]


@dataclass
class Packed:
    """A section in the order of the kernel: by block of input channels, by group, by position."""

    starts: np.ndarray  # int64 (blocks, groups + 1)
    offsets: np.ndarray  # int32
    source: np.ndarray  # (entries, size)
    values: np.ndarray  # (entries, size)
    zero: int  # how many non-zeros there are in all

    @classmethod
    def of(cls, section: Section, weights: Weights, walk: Walk, blocks: int) -> "Packed":
        """Sort a section's entries and find their offsets."""
        block = walk.channel[section.position] * blocks // walk.channels
        order = np.argsort(block * section.groups + section.group, kind="stable")
        channels = section.channels[:: section.size]
        part = channels // max(1, sum(len(s.channels) for s in weights.sections) // weights.parts)
        offsets = walk.offset[section.position] + part[section.group] * walk.part
        counts = np.bincount(block * section.groups + section.group, minlength=blocks * section.groups)
        ends = np.append(0, np.cumsum(counts))
        starts = ends[np.arange(blocks)[:, None] * section.groups + np.arange(section.groups + 1)]
        source = section.source[order]
        return cls(
            starts.astype(np.int64),
            offsets[order].astype(np.int32),
            source,
            weights.values[source],
            len(weights.values) - 1,
        )

    @cached_property
    def in_order(self) -> bool:
        """Whether the entries are the non-zeros in row-major order."""
        return self.source.shape[1] == 1 and np.array_equal(self.source[:, 0], np.arange(len(self.source)))

    @cached_property
    def missing(self) -> np.ndarray:
        """The entries that stand for zeros, which lie past the last non-zero."""
        return np.flatnonzero(self.source.ravel() == self.zero)

    def refresh(self, values: np.ndarray):
        """Take new values of all non-zeros."""
        if self.in_order and len(values) == len(self.source):
            self.values[:, 0] = values
        elif len(values):
            np.take(values, self.source, out=self.values, mode="clip")
            self.values.ravel()[self.missing] = 0


class Strips:
    """The kernel on x and out (NCHW, rows `walk.pitch` apart, x with its halo), adding a residual that lies as out does."""

    def __init__(self, weights: Weights, walk: Walk, x, out, residual=None, threads: int = 1):
        self.weights, self.walk, self.threads, self.images = weights, walk, threads, len(x)
        self.keep: list[np.ndarray | None] = [x, out, residual]
        self._tile()
        self.packed = weights.pack(walk, self.blocks)
        self.chunks = np.array(self._chunks(), np.int64).reshape(-1, 3)
        self.plan = self._plan(x, out, residual)
        self.call = self._call()

    def refresh(self, values: np.ndarray, bias: np.ndarray | None = None):
        """Take new values of the non-zeros and new biases, zeros if None."""
        for section, packed, place in zip(self.weights.sections, self.packed, self.biases, strict=True):
            packed.refresh(values)
            place[...] = 0 if bias is None else bias[section.channels]

    def _tile(self):
        """Choose how many vectors make a tile and into how many blocks the input channels are split."""
        walk = self.walk
        self.vectors = -(-walk.pixels // LANES)
        biggest = max(self.weights.sections, key=lambda s: s.source.size)
        widest = target().vectors(biggest.size) * (2 if biggest.size == 8 else 1)
        self.tile = -(-self.vectors // -(-self.vectors // widest))
        self.tiles = -(-self.vectors // self.tile)
        blocks = math.ceil(walk.channels * walk.footprint(self.tile * LANES) / CACHE)
        entries = biggest.position.size / biggest.groups
        least = LEAST[biggest.size] * (2 if walk.lines == 1 else 1)
        self.blocks = max(1, min(blocks, int(entries // least), walk.channels))

    def _chunks(self) -> list[tuple[int, int, int]]:
        """Rows of (address of a section's table, first group, group after the last)."""
        position, chunks = 0, []
        self.biases = []
        tiles = self.tiles * self.images
        for section, packed in zip(self.weights.sections, self.packed, strict=True):
            lanes, bias = section.channels.astype(np.int32), self.weights.bias[section.channels]
            arrays = (lanes, bias, packed.starts, packed.offsets, packed.values)
            table = np.zeros(len(Table), np.int64)
            table[Table.SIZE], table[Table.GROUPS], table[Table.POSITION] = section.size, section.groups, position
            columns = (Table.LANES, Table.BIAS, Table.STARTS, Table.OFFSETS, Table.VALUES)
            for column, array in zip(columns, arrays, strict=True):
                table[column] = array.ctypes.data
            self.keep += [table, *arrays]
            self.biases.append(bias)
            parts = max(1, math.ceil((packed.values.nbytes + packed.offsets.nbytes) / CHUNK)) if tiles > 1 else 1
            if tiles < self.threads:
                parts = max(parts, self.threads)
            cuts = np.linspace(0, section.groups, min(parts, section.groups) + 1).astype(int)
            chunks += [(table.ctypes.data, int(a), int(b)) for a, b in zip(cuts, cuts[1:], strict=False)]
            position += len(section.channels)
        return chunks

    def _plan(self, x, out, residual) -> np.ndarray:
        """The table that the program reads."""
        activation, masks = self.weights.activation, self.walk.masks(LANES)
        plan = np.zeros(len(Plan), np.int64)
        plan[Plan.X], plan[Plan.X_IMAGE] = x.ctypes.data, x.strides[0]
        plan[Plan.OUT : Plan.OUT_CHANNEL + 1] = out.ctypes.data, *out.strides[:2]
        if residual is not None:
            plan[Plan.RESIDUAL : Plan.RESIDUAL_CHANNEL + 1] = residual.ctypes.data, *residual.strides[:2]
        plan[Plan.MASKS], plan[Plan.CHUNKS] = masks.ctypes.data, self.chunks.ctypes.data
        plan[Plan.VECTORS], plan[Plan.TILE], plan[Plan.TILES] = self.vectors, self.tile, self.tiles
        plan[Plan.IMAGES], plan[Plan.BLOCKS] = self.images, self.blocks
        low, high = activation.bounds
        floats = plan.view(np.float32)
        floats[2 * Plan.LOW], floats[2 * Plan.HIGH], floats[2 * Plan.SLOPE] = low, high, activation.slope
        plan[Plan.ACTIVATION] = 0 if low > -math.inf else ACTIVATIONS.index(activation.name)
        self.keep.append(masks)
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
