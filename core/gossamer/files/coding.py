"""A weight as the smallest of its dense values, and its live values with an index; values may be narrowed.

int8 values: weight = scale × code, with one float32 scale per output (row of the first dimension), max|weight| / 127.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.files.container import Damage, Entry
from gossamer.files.parts import Parts, encode_index, smaller_index

Values = Literal["float32", "float16", "int8"]
WIDTHS = {"float32": 8, "float16": 2, "int8": 1}  # bytes of a stored value, at most
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def entry_of(tensor: Tensor) -> Entry:
    """The entry of a contiguous tensor on the CPU."""
    flat = tensor.reshape(-1)
    content = flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
    return Entry(NAMES[tensor.dtype], tuple(tensor.shape), content)


def tensor_of(entry: Entry) -> Tensor:
    """The tensor of an entry, in memory of its own; raise `Damage` where its bytes are no values of its dtype."""
    array = entry.array()
    if not array.size:
        return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    return torch.from_numpy(array.reshape(-1).view(np.uint8)).view(DTYPES[entry.dtype]).reshape(entry.shape)


def encode(weight: Tensor, alive: Tensor | None, values: Values, *, keep: bool) -> Parts:
    """The parts of a weight: `values`, `bitmap` or `gaps` where some are dead, `scales` for int8.

    weight: contiguous, on the CPU; alive: bool tensor of its shape, None where there is no topology; keep: false drops
    the topology where dense values are smaller. Raises `InputError` where `values` cannot hold a weight.
    """
    index: dict[str, np.ndarray] = {}
    if alive is not None and keep:
        index = {} if bool(alive.all()) else encode_index(alive.numpy())
    elif alive is not None:
        index = smaller_index(alive.numpy(), min(weight.itemsize, WIDTHS[values]))
        alive = alive if index else None
    live = weight[alive] if index and alive is not None else weight
    parts = {"values": live}
    if values == "int8":
        ones = alive if index and alive is not None else torch.ones(weight.shape, dtype=torch.bool)
        parts = quantize(live, ones.reshape(len(weight), -1).sum(1))
    elif values == "float16" and weight.itemsize > 2:
        parts = {"values": live.to(torch.float16)}
        if not bool(parts["values"].isfinite().all()):
            raise InputError("a weight is infinite or beyond 65504, float16's largest. Save with values='float32'.")
    entries = {kind: entry_of(part) for kind, part in parts.items()}
    entries |= {kind: Entry.of(part) for kind, part in index.items()}
    return Parts(NAMES[weight.dtype], tuple(weight.shape), alive is not None, entries)


def decode(parts: Parts) -> tuple[Tensor, Tensor | None]:
    """The tensor, and its mask where its topology was kept; raise `Damage` where the parts make neither.

    Allocates what the shape asks for, which the caller has compared with the model's.
    """
    found, dtype = parts.mask(), DTYPES[parts.dtype]
    mask, live = None if found is None else torch.from_numpy(found), tensor_of(parts.entries["values"])
    index = mask if parts.is_indexed else None
    if "scales" in parts.entries:
        live = _scaled(parts, live, tensor_of(parts.entries["scales"]), index)
    elif live.dtype == torch.float16 and dtype in (torch.float32, torch.float64):
        live = live.to(dtype)
    if live.dtype != dtype:
        raise Damage("the values have another dtype than their tensor")
    if has_nan(live):
        raise Damage("it holds NaN, which gossamer.save never writes")
    if index is not None:
        live = torch.zeros(len(index), dtype=dtype).masked_scatter_(index, live).reshape(parts.shape)
    return live, None if mask is None else mask.reshape(parts.shape)


def has_nan(tensor: Tensor) -> bool:
    """Whether a tensor of any dtype holds NaN."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return bool((tensor.float() if tensor.itemsize == 1 else tensor).isnan().any())


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


def _scaled(parts: Parts, codes: Tensor, scales: Tensor, mask: Tensor | None) -> Tensor:
    """scale × code in float32, rounded to the tensor's dtype."""
    dtype = DTYPES[parts.dtype]
    outputs = parts.shape[0] if len(parts.shape) > 1 and dtype.is_floating_point else -1
    if codes.dtype != torch.int8 or scales.dtype != torch.float32 or scales.shape != (outputs,):
        raise Damage("int8 values do not fit their scales")
    if not bool((scales.isfinite() & (scales >= 0)).all()):
        raise Damage("a scale is negative or not finite")
    if mask is None:
        live = codes * scales.reshape(-1, *[1] * (codes.dim() - 1))
    else:
        live = codes * torch.repeat_interleave(scales, mask.reshape(outputs, -1).sum(1))
    live = live.to(dtype)
    if not bool(live.isfinite().all()):
        raise Damage("a scale takes its values beyond their dtype")
    return live
