"""Which output channels share a loop over non-zeros, and the order in which the kernels read weights."""

from dataclasses import dataclass

import numpy as np

from gossamer.kernels.target import target

FILL = {8: 0.6, 4: 0.55, 2: 0.75}  # least share of non-zeros for which channels of unlike supports go together


@dataclass(frozen=True)
class Section:
    """Groups of `size` output channels; each entry is one input position of one group.

    `channels` (groups · size) lists the output channels, `group` (entries, sorted) and `position` (entries) say where an entry
    belongs, `source` (entries, size) which of the weight's non-zeros it multiplies, in row-major order; one past the last stands for zero.
    """

    size: int
    channels: np.ndarray
    group: np.ndarray
    position: np.ndarray
    source: np.ndarray

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.channels) // self.size


def sections(mask: np.ndarray, groups: int = 1, source: np.ndarray | None = None) -> list[Section]:
    """Pack the true positions of a mask (O, K), whose output channels belong to `groups` equal parts with inputs of their own.

    `source` (O, K) numbers the non-zeros, and names one past the last where there is none; in row-major order if None.

    Channels with equal supports go together by eights, fours and twos; channels of like supports too, where the
    zeros to be multiplied with are few.
    """
    sizes = [s for s in (8, 4, 2) if target().vectors(s) > 1]
    part = np.arange(len(mask)) // max(1, len(mask) // groups)
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
    if source is None:
        source = np.cumsum(mask, dtype=np.int32).reshape(mask.shape) - np.int32(1)
        source[~mask] = mask.sum()
    return [_section(mask, source, members) for members in taken.values() if members]


def _equal(mask, part) -> list[np.ndarray]:
    """The channels by part and support, in the order of their first channels."""
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for channel, bits in enumerate(np.packbits(mask, axis=1)):
        buckets.setdefault((part[channel], bits.tobytes()), []).append(channel)
    return [np.array(channels) for channels in buckets.values()]


def _alike(mask, part, left, size, taken) -> list[int]:
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


def _section(mask, source, members) -> Section:
    channels = np.array(sorted(members, key=lambda run: run[0]), int)  # (groups, size)
    size = channels.shape[1]
    union = mask[channels[:, 0]].copy()
    for column in range(1, size):
        union |= mask[channels[:, column]]
    group, position = np.nonzero(union)
    return Section(
        size,
        channels.ravel(),
        group.astype(np.int32),
        position.astype(np.int32),
        source[channels[group], position[:, None]],
    )


def name(packed: list[Section]) -> str:
    """What most of the packed non-zeros lie in: "unstructured", or "block(4,1)" for groups of four channels."""
    size = max(packed, key=lambda section: section.source.size).size if packed else 1
    return "unstructured" if size == 1 else f"block({size},1)"
