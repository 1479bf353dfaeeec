"""A tensor in parts: its live values, and the places they live at as a bitmap or as gaps of 8 or 16 bits.

`gaps`: per live weight the number of dead ones before it, in row-major order; a gap that the code's type cannot hold
is cut by fillers, the type's largest value T, each of which stands for T dead weights and no live one (the relative
index of Han et al., "Deep Compression", 2016, whose filler costs a zero value as well).
`bitmap`: one bit per weight, the lowest bit of a byte first.

The parts of NAME are the tensors NAME.values, NAME.bitmap or NAME.gaps, and NAME.scales; `coded` in a file's metadata
says of each NAME (JSON) its dtype, its shape, and whether its topology is kept.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.files.container import DTYPES, Damage, Entry, is_shape, parse

ENTRY = 256
"""What the parts of a sparse tensor add to the header, about."""


@dataclass(frozen=True)
class Parts:
    """One tensor of a file: what it was, whether its topology is kept, and the entries it is made of by kind."""

    dtype: str
    shape: tuple[int, ...]
    topology: bool
    entries: Mapping[str, Entry]

    def mask(self) -> np.ndarray | None:
        """The flat topology, if it is kept; raise `Damage` where it does not fit shape and values."""
        size = math.prod(self.shape)
        index = [kind for kind in ("bitmap", "gaps") if kind in self.entries]
        if any(
            self.entries[kind].dtype not in ("U8", "U16") for kind in index
        ):  # NumPy's arrays of BF16 are uint16, too
            raise Damage("an index is neither uint8 nor uint16")
        mask = decode_index(index[0], self.entries[index[0]].array(), size) if index else None
        if self.entries["values"].shape != (self.shape if mask is None else (int(np.count_nonzero(mask)),)):
            raise Damage("the values are not as many as their index says")
        return np.ones(size, np.bool_) if mask is None and self.topology else mask

    @property
    def is_indexed(self) -> bool:
        """Whether the values are those of the live weights alone."""
        return not self.entries.keys().isdisjoint(("bitmap", "gaps"))

    def array(self) -> np.ndarray:
        """The tensor as it was, where it was float32 and is kept as such; raise `Damage` where it is not."""
        if {self.dtype, self.entries["values"].dtype} != {"F32"} or "scales" in self.entries:
            raise Damage("a tensor is not float32")
        mask, live = self.mask(), self.entries["values"].array()
        if not self.is_indexed:
            return live
        dense = np.zeros(math.prod(self.shape), np.float32)
        dense[mask] = live
        return dense.reshape(self.shape)


def describe(coded: Mapping[str, Parts]) -> str:
    """What `coded` says in a file's metadata."""
    records = {
        name: {"dtype": parts.dtype, "shape": list(parts.shape), "topology": parts.topology}
        for name, parts in coded.items()
    }
    return json.dumps(records, sort_keys=True, separators=(",", ":"))


def gather(entries: Mapping[str, Entry], coded: str) -> dict[str, Parts]:
    """The tensors of a file by name: those in parts, and those that are one entry; raise `Damage` where parts lack."""
    left, found = dict(entries), {}
    for name, record in parse(coded).items():
        dtype, shape, topology = _checked(name, record)
        kinds = ["values", *(["bitmap", "gaps"] if topology else []), "scales"]
        parts = {kind: left.pop(f"{name}.{kind}") for kind in kinds if f"{name}.{kind}" in left}
        if "values" not in parts or parts.keys() >= {"bitmap", "gaps"}:
            raise Damage(f"{name!a} has no values, or two indices")
        found[name] = Parts(dtype, tuple(shape), topology, parts)
    for name, entry in left.items():
        if name in found:
            raise Damage(f"it holds {name!a} twice")
        found[name] = Parts(entry.dtype, entry.shape, False, {"values": entry})
    return found


def _checked(name: str, record: Any) -> tuple[str, list[int], bool]:
    if not isinstance(record, dict) or record.keys() != {"dtype", "shape", "topology"}:
        raise Damage(f"it does not describe {name!a} by dtype, shape and topology")
    dtype, shape, topology = record["dtype"], record["shape"], record["topology"]
    if not isinstance(dtype, str) or dtype not in DTYPES or not is_shape(shape) or type(topology) is not bool:
        raise Damage(f"it does not describe {name!a} by a known dtype, a shape and true or false")
    return dtype, shape, topology


def smaller_index(alive: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """The index of a bool array, or {} where dense values of `width` bytes are smaller than live ones and it."""
    if alive.all():
        return {}
    index = encode_index(alive)
    saved = (alive.size - int(np.count_nonzero(alive))) * width
    return index if sum(part.nbytes for part in index.values()) + ENTRY < saved else {}


def encode_index(alive: np.ndarray) -> dict[str, np.ndarray]:
    """The smaller of `{"bitmap": uint8}` and `{"gaps": uint8 or uint16}` for a bool array, the bitmap where equal."""
    flat = alive.reshape(-1)
    count = int(np.count_nonzero(flat))
    limit = (flat.size + 7) // 8
    if count < limit:
        gaps = np.diff(np.flatnonzero(flat), prepend=-1) - 1
        best = min((_cut(gaps, np.uint8), _cut(gaps, np.uint16)), key=lambda codes: codes.nbytes)
        if best.nbytes < limit:
            return {"gaps": best}
    return {"bitmap": np.packbits(flat, bitorder="little")}


def decode_index(kind: str, index: np.ndarray, size: int) -> np.ndarray:
    """The flat bool array of `size` that a bitmap or gaps stand for; raise `Damage` where they stand for none."""
    if kind == "bitmap":
        if index.dtype != np.uint8 or index.shape != ((size + 7) // 8,):
            raise Damage("a bitmap does not fit its tensor")
        bits = np.unpackbits(index, bitorder="little")
        if bits[size:].any():
            raise Damage("a bitmap goes beyond its tensor")
        return bits[:size].view(np.bool_)
    if index.dtype not in (np.uint8, np.uint16) or index.ndim != 1:
        raise Damage("gaps are neither uint8 nor uint16")
    live = index < np.iinfo(index.dtype).max
    if len(index) and not live[-1]:
        raise Damage("gaps end in a filler")
    places = (np.cumsum(index, dtype=np.int64) + np.cumsum(live))[live] - 1
    if len(places) and places[-1] >= size:
        raise Damage("gaps go beyond their tensor")
    alive = np.zeros(size, dtype=np.bool_)
    alive[places] = True
    return alive


def _cut(gaps: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Gaps as codes of `dtype`, those too long cut by fillers."""
    filler = np.iinfo(dtype).max
    fillers, rest = np.divmod(gaps, filler)
    codes = np.full(len(gaps) + int(fillers.sum()), filler, dtype)
    codes[np.cumsum(fillers) + np.arange(len(gaps))] = rest
    return codes
