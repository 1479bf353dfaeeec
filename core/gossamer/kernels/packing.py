"""Which output channels share a loop over non-zeros, and the order in which the kernels read weights."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gossamer.kernels.geometry import Axis, Geometry
from gossamer.kernels.target import target

FILL = {8: 0.6, 4: 0.55, 2: 0.75}
"""The least share of non-zeros for which channels of unlike supports go together; from `core/benchmarks/tuning.py`."""
WIDE = 1 << 16  # input positions that an index of a block tells apart


@dataclass(eq=False)
class Section:
    """Groups of `size` output channels, each with a list of entries: an input position and a value for every channel.

    The kernel reads them by block of input positions, by group, by position, counted from the block's first.
    `source`, for weights that train, numbers the non-zero that each value is, one past the last where it is none.
    """

    size: int
    channels: np.ndarray  # int32 (groups · size)
    parts: np.ndarray  # int32 (groups,), the part of the channels that each group belongs to
    starts: np.ndarray  # int32 (blocks, groups + 1), into the entries
    positions: np.ndarray  # uint16 (entries,)
    values: np.ndarray  # float32 (entries, size)
    source: np.ndarray  # int32 (entries, size), empty unless they train

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.channels) // self.size

    @property
    def bytes(self) -> int:
        """The memory it takes."""
        return sum(a.nbytes for a in (self.channels, self.parts, self.starts, self.positions, self.values))

    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Each entry's block and group."""
        counts = np.diff(self.starts, axis=1)
        block, group = np.indices(counts.shape)
        return np.repeat(block, counts.ravel()), np.repeat(group, counts.ravel())

    @cached_property
    def in_order(self) -> bool:
        """Whether the entries are the non-zeros in row-major order."""
        return self.size == 1 and np.array_equal(self.source[:, 0], np.arange(len(self.source)))


@dataclass(eq=False)
class Weights:
    """A weight (O, I, K), K kernel positions; its O channels are in `parts` equal parts with I inputs each.

    It is stored once, as sections that kernels read, sorted by `blocks` blocks of input channels.
    """

    sections: list[Section]
    shape: tuple[int, int, int]
    parts: int
    bias: np.ndarray
    nonzeros: int
    blocks: int

    @classmethod
    def of(cls, weight: np.ndarray, mask: np.ndarray | None, parts: int, bias: np.ndarray | None) -> "Weights":
        """Pack a weight (O, I, K) where `mask` is true, all of it if None."""
        keep = np.ones(weight.shape, bool) if mask is None else mask
        count = int(np.count_nonzero(keep))
        source = np.full(weight.shape, count)
        source[keep] = np.arange(count)
        weights = cls.sourced(source.reshape(len(weight), -1), count, weight.shape, parts, bias)
        values = np.append(weight[keep], 0).astype(np.float32)
        for section in weights.sections:
            section.values, section.source = values[section.source], section.source[:0]
        return weights

    @classmethod
    def sourced(
        cls, source: np.ndarray, count: int, shape: tuple[int, int, int], parts: int, bias: np.ndarray | None = None
    ) -> "Weights":
        """The sections of non-zeros, zero, numbered by `source` (O, I · K), `count` where there is none."""
        mask = source < count
        blocks = cls.fewest(shape)
        sections = []
        for channels in grouped(mask, parts):
            union = mask[channels].any(axis=1)
            group, position = np.nonzero(union)
            picked = source[channels[group], position[:, None]].astype(np.int32)
            values = np.zeros(picked.shape, np.float32)
            sections.append(_sorted(shape, parts, blocks, channels, group, position, values, picked))
        bias = np.zeros(shape[0], np.float32) if bias is None else bias.astype(np.float32)
        return cls(sections, shape, parts, bias, count, blocks)

    @staticmethod
    def fewest(shape: tuple[int, int, int]) -> int:
        """The fewest blocks whose positions can be told apart."""
        return -(-shape[1] // max(1, WIDE // shape[2]))

    def in_blocks(self, blocks: int) -> "Weights":
        """These weights with their entries sorted by `blocks` blocks of input channels; themselves if they are."""
        if blocks == self.blocks:
            return self
        first = first_channels(self.shape[1], self.blocks) * self.shape[2]
        sections = []
        for section in self.sections:
            block, group = section.entries()
            position = first[block] + section.positions
            channels = section.channels.reshape(-1, section.size)
            entries = (group, position, section.values, section.source)
            sections.append(_sorted(self.shape, self.parts, blocks, channels, *entries))
        return dataclasses.replace(self, sections=sections, blocks=blocks)

    def dense(self) -> np.ndarray:
        """The dense weight (O, I, K)."""
        weight = np.zeros((self.shape[0], self.shape[1] * self.shape[2]), np.float32)
        first = first_channels(self.shape[1], self.blocks) * self.shape[2]
        for section in self.sections:
            block, group = section.entries()
            channels = section.channels.reshape(-1, section.size)[group]
            weight[channels, (first[block] + section.positions)[:, None]] = section.values
        return weight.reshape(self.shape)

    @property
    def bytes(self) -> int:
        """The memory that they take."""
        return sum(section.bytes for section in self.sections) + self.bias.nbytes

    @property
    def pattern(self) -> str:
        """What most of the non-zeros lie in: "dense", "unstructured", or "block(4,1)" for groups of four channels."""
        if self.nonzeros == np.prod(self.shape):
            return "dense"
        size = max(self.sections, key=lambda section: section.values.size).size
        return "unstructured" if size == 1 else f"block({size},1)"


def _sorted(
    shape: tuple[int, int, int],
    parts: int,
    blocks: int,
    channels: np.ndarray,
    group: np.ndarray,
    position: np.ndarray,
    values: np.ndarray,
    source: np.ndarray,
) -> Section:
    """The section of entries sorted by block, group and position."""
    first = first_channels(shape[1], blocks) * shape[2]
    block = np.searchsorted(first, position, side="right") - 1
    order = np.lexsort((position, group, block))
    counts = np.bincount(block * len(channels) + group, minlength=blocks * len(channels))
    ends = np.append(0, np.cumsum(counts))
    starts = ends[np.arange(blocks)[:, None] * len(channels) + np.arange(len(channels) + 1)]
    positions = (position - first[block])[order].astype(np.uint16)
    source = source[order] if len(source) else source
    part = channels[:, 0] // max(1, shape[0] // parts)
    lists = (channels.ravel().astype(np.int32), part.astype(np.int32), starts.astype(np.int32))
    return Section(channels.shape[1], *lists, positions, values[order], source)


def first_channels(channels: int, blocks: int) -> np.ndarray:
    """The first input channel of each block, and the number of channels behind them."""
    return np.arange(blocks + 1) * channels // blocks


def grouped(mask: np.ndarray, parts: int = 1) -> list[np.ndarray]:
    """The output channels of a mask (O, K), in groups of 8, 4, 2 and 1: arrays (groups, size) for the sizes that occur.

    Channels with equal supports go together; channels of like supports too, where the zeros to be multiplied
    with are few. Channels of unlike parts, of which there are `parts` equal ones, never do.
    """
    sizes = [s for s in (8, 4, 2) if target().vectors(s) > 1]
    part = np.arange(len(mask)) // max(1, len(mask) // parts)
    taken: dict[int, list[np.ndarray]] = {size: [] for size in [*sizes, 1]}
    left = []
    for equal in _equal(mask, part):
        for size in sizes:
            while len(equal) >= size:
                taken[size].append(equal[:size])
                equal = equal[size:]
        left += list(equal)
    for size in sizes:
        left = _alike(mask, part, np.array(sorted(left), int), size, taken[size])
    taken[1] = [np.array([channel]) for channel in left]
    return [np.array(sorted(runs, key=lambda run: run[0]), int) for runs in taken.values() if runs]


def _equal(mask: np.ndarray, part: np.ndarray) -> list[np.ndarray]:
    """The channels by part and support, in the order of their first channels."""
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for channel, bits in enumerate(np.packbits(mask, axis=1)):
        buckets.setdefault((part[channel], bits.tobytes()), []).append(channel)
    return [np.array(channels) for channels in buckets.values()]


def _alike(mask: np.ndarray, part: np.ndarray, left: np.ndarray, size: int, taken: list[np.ndarray]) -> list[int]:
    """Move runs of `size` channels whose common support is full enough to `taken`; return the others."""
    others, start = [], 0
    while start < len(left):
        run = left[start : start + size]
        union = np.count_nonzero(mask[run].any(axis=0))
        whole = len(run) == size and part[run[0]] == part[run[-1]]
        if whole and np.count_nonzero(mask[run]) >= FILL[size] * size * union:
            taken.append(run)
            start += size
        else:
            others.append(int(run[0]))
            start += 1
    return others


class Topology:
    """Where the non-zeros of a layer's weight lie: `positions`, ascending, in row-major order."""

    def __init__(self, positions: np.ndarray, geometry: Geometry):
        self.positions, self.geometry = positions, geometry

    def source(self) -> np.ndarray:
        """The number of the non-zero at each place of the weight, one past the last where there is none."""
        source = np.full(self.geometry.shape, len(self.positions), np.int32)
        source.reshape(-1)[self.positions] = np.arange(len(self.positions), dtype=np.int32)
        return source

    def weights(self) -> Weights:
        """The weights of the forward pass."""
        outputs, inputs, height, width = self.geometry.shape
        source = self.source().reshape(outputs, -1)
        return Weights.sourced(source, len(self.positions), (outputs, inputs, height * width), self.geometry.groups)

    def reverse(self, rows: Axis, columns: Axis) -> Weights:
        """The packing of the gradient to the input: its phases are the outputs, the forward outputs its inputs."""
        (outputs, inputs, height, width), groups = self.geometry.shape, self.geometry.groups
        turned = self.source().reshape(groups, outputs // groups, inputs, height, width).swapaxes(1, 2)
        phase = rows.phase[:, None] * len(columns.phases) + columns.phase
        phases = np.arange(len(rows.phases) * len(columns.phases))[:, None, None, None]
        source = np.where(phase == phases, turned[:, :, None], np.int32(len(self.positions)))
        source = source.reshape(groups * inputs * len(phases), -1)
        return Weights.sourced(source, len(self.positions), (len(source), outputs // groups, height * width), groups)
