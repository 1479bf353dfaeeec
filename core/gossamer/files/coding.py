"""A tensor as its live values and the places they live at: a bitmap, or gaps of 8 or 16 bits.

`gaps`: per live weight the number of dead ones before it, in row-major order; a gap that the code's type cannot hold
is cut by fillers, the type's largest value T, each of which stands for T dead weights and no live one (the relative
index of Han et al., "Deep Compression", 2016, whose filler costs a zero value as well).
`bitmap`: one bit per weight, the lowest bit of a byte first.
int8 values: weight = scale × code, with one float32 scale per output (row of the first dimension), max|weight| / 127.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.files.container import Damage, Entry

Values = Literal["float32", "float16", "int8"]
WIDTHS = {"float32": 8, "float16": 2, "int8": 1}  # bytes of a stored value, at most
ENTRY = 256  # what the parts of a sparse tensor add to the header, about


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: what it was, whether its topology is kept, and the parts it is made of."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    topology: bool
    parts: Mapping[str, Entry]


def encode(weight: Tensor, alive: Tensor | None, values: Values, *, keep: bool) -> tuple[bool, dict[str, Tensor]]:
    """Whether the topology is kept, and the parts: `values`, `bitmap` or `gaps` where some are dead, `scales` for int8.

    weight: contiguous, on the CPU; alive: bool tensor of its shape, None where there is no topology; keep: false drops
    the topology where dense values are smaller. Raises `InputError` where `values` cannot hold a weight.
    """
    index = {} if alive is None or bool(alive.all()) else encode_index(alive)
    if not keep and alive is not None:
        width = min(weight.itemsize, WIDTHS[values])
        saved = (weight.numel() - int(alive.sum())) * width
        if sum(part.nbytes for part in index.values()) + ENTRY >= saved:
            alive, index = None, {}
    live = weight[alive] if index and alive is not None else weight
    if values == "int8":
        ones = alive if index and alive is not None else torch.ones(weight.shape, dtype=torch.bool)
        parts = quantize(live, ones.reshape(len(weight), -1).sum(1))
    elif values == "float16" and weight.itemsize > 2:
        parts = {"values": live.to(torch.float16)}
        if not bool(parts["values"].isfinite().all()):
            raise InputError("a weight is infinite or beyond 65504, float16's largest. Save with values='float32'.")
    else:
        parts = {"values": live}
    return alive is not None, parts | index


def decode(stored: Stored) -> tuple[Tensor, Tensor | None]:
    """The tensor, and its mask where its topology was kept; raise `Damage` where the parts make neither.

    Allocates what the shape asks for, which the caller has compared with the model's.
    """
    size = math.prod(stored.shape)
    parts = {kind: entry.tensor() for kind, entry in stored.parts.items()}
    live, scales, index = parts.pop("values"), parts.pop("scales", None), list(parts.items())
    mask = decode_index(*index[0], size) if index else torch.ones(size, dtype=torch.bool) if stored.topology else None
    if live.shape != ((int(mask.sum()),) if index and mask is not None else stored.shape):
        raise Damage("the values are not as many as their index says")
    if scales is not None:
        live = _scaled(stored, live, scales, mask if index else None)
    elif live.dtype == torch.float16 and stored.dtype in (torch.float32, torch.float64):
        live = live.to(stored.dtype)
    if live.dtype != stored.dtype:
        raise Damage("the values have another dtype than their tensor")
    if has_nan(live):
        raise Damage("it holds NaN, which gossamer.save never writes")
    if index and mask is not None:
        live = torch.zeros(size, dtype=live.dtype).masked_scatter_(mask, live).reshape(stored.shape)
    return live, None if mask is None else mask.reshape(stored.shape)


def has_nan(tensor: Tensor) -> bool:
    """Whether a tensor of any dtype holds NaN."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return bool((tensor.float() if tensor.itemsize == 1 else tensor).isnan().any())


def encode_index(alive: Tensor) -> dict[str, Tensor]:
    """The smaller of `{"bitmap": uint8}` and `{"gaps": uint8 or uint16}` for a bool tensor, the bitmap where equal."""
    flat = alive.reshape(-1).numpy()
    count = int(np.count_nonzero(flat))
    limit = (flat.size + 7) // 8
    if count < limit:
        gaps = np.diff(np.flatnonzero(flat), prepend=-1) - 1
        best = min((_cut(gaps, np.uint8), _cut(gaps, np.uint16)), key=lambda codes: codes.nbytes)
        if best.nbytes < limit:
            return {"gaps": torch.from_numpy(best)}
    return {"bitmap": torch.from_numpy(np.packbits(flat, bitorder="little"))}


def decode_index(kind: str, index: Tensor, size: int) -> Tensor:
    """The 1-D bool tensor of `size` that a bitmap or gaps stand for; raise `Damage` where they stand for none."""
    if kind == "bitmap":
        if index.dtype != torch.uint8 or index.shape != ((size + 7) // 8,):
            raise Damage("a bitmap does not fit its tensor")
        bits = np.unpackbits(index.numpy(), bitorder="little")
        if bits[size:].any():
            raise Damage("a bitmap goes beyond its tensor")
        return torch.from_numpy(bits[:size].view(np.bool_))
    if index.dtype not in (torch.uint8, torch.uint16) or index.dim() != 1:
        raise Damage("gaps are neither uint8 nor uint16")
    codes = index.numpy()
    live = codes < np.iinfo(codes.dtype).max
    if len(codes) and not live[-1]:
        raise Damage("gaps end in a filler")
    places = (np.cumsum(codes, dtype=np.int64) + np.cumsum(live))[live] - 1
    if len(places) and places[-1] >= size:
        raise Damage("gaps go beyond their tensor")
    alive = np.zeros(size, dtype=np.bool_)
    alive[places] = True
    return torch.from_numpy(alive)


def quantize(values: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """int8 `values` and float32 `scales`; the first counts[0] values, in row-major order, are of output 0, and so on.

    Raises `InputError` where a value is infinite or beyond float32.
    """
    wide = values.reshape(-1).to(torch.float64)
    rows = torch.repeat_interleave(counts)
    largest = torch.zeros(len(counts), dtype=torch.float64).scatter_reduce_(0, rows, wide.abs(), "amax")
    scales = (largest / 127).to(torch.float32)
    if not bool((scales * 127).isfinite().all()):
        raise InputError("a weight is infinite or beyond float32. Save with values='float32'.")
    steps = scales.to(torch.float64)[rows]
    codes = torch.where(steps > 0, wide / steps, 0.0).round().clamp(-127, 127).to(torch.int8)
    return {"values": codes.reshape(values.shape), "scales": scales}


def _scaled(stored: Stored, codes: Tensor, scales: Tensor, mask: Tensor | None) -> Tensor:
    """scale × code in float32, rounded to the tensor's dtype."""
    outputs = stored.shape[0] if len(stored.shape) > 1 and stored.dtype.is_floating_point else -1
    if codes.dtype != torch.int8 or scales.dtype != torch.float32 or scales.shape != (outputs,):
        raise Damage("int8 values do not fit their scales")
    if not bool((scales.isfinite() & (scales >= 0)).all()):
        raise Damage("a scale is negative or not finite")
    if mask is None:
        live = codes * scales.reshape(-1, *[1] * (codes.dim() - 1))
    else:
        live = codes * torch.repeat_interleave(scales, mask.reshape(outputs, -1).sum(1))
    live = live.to(stored.dtype)
    if not bool(live.isfinite().all()):
        raise Damage("a scale takes its values beyond their dtype")
    return live


def _cut(gaps: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Gaps as codes of `dtype`, those too long cut by fillers."""
    filler = np.iinfo(dtype).max
    fillers, rest = np.divmod(gaps, filler)
    codes = np.full(len(gaps) + int(fillers.sum()), filler, dtype)
    codes[np.cumsum(fillers) + np.arange(len(gaps))] = rest
    return codes
