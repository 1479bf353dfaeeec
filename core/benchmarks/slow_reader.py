"""A second reader of model files, slow and simple: the safetensors library and plain Python, no code of the package.

`fuzz_files.py` holds what `gossamer.load` accepts against it.
"""

import json
import struct
from typing import Any

import safetensors

FORMATS = {"F16": "e", "F32": "f", "I8": "b", "U8": "B", "U16": "H"}  # of struct


def read_slowly(content: bytes) -> dict[str, tuple[bytes, list[bool] | None]]:
    """Each tensor's bytes and mask, as the safetensors library and plain Python find them in a valid file."""
    parts = {name: (t["dtype"], t["shape"], bytes(t["data"])) for name, t in safetensors.deserialize(content)}
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    found: dict[str, tuple[bytes, list[bool] | None]] = {}
    for name, record in json.loads(metadata["coded"]).items():
        found[name] = decode_slowly(name, record, parts)
        refuse_nan(name, record["dtype"], found[name][0])
    for name, (dtype, _, raw) in parts.items():
        if not any(name == f"{coded}.{kind}" for coded in found for kind in ("values", "bitmap", "gaps", "scales")):
            found[name] = raw, None
            refuse_nan(name, dtype, raw)
    return found | {name: found[first] for name, first in json.loads(metadata["tied"]).items()}


def refuse_nan(name: str, dtype: str, raw: bytes) -> None:
    """Raise `ValueError` where a tensor holds NaN."""
    if dtype in ("F16", "F32") and any(value != value for (value,) in struct.iter_unpack(f"<{FORMATS[dtype]}", raw)):
        raise ValueError(f"{name} holds NaN")


def decode_slowly(name: str, record: dict[str, Any], parts: dict[str, Any]) -> tuple[bytes, list[bool] | None]:
    """One coded tensor, weight by weight."""
    size = 1
    for dimension in record["shape"]:
        size *= dimension
    dtype, _, raw = parts[f"{name}.values"]
    values = [value for (value,) in struct.iter_unpack(f"<{FORMATS[dtype]}", raw)]
    alive = [True] * size
    if f"{name}.bitmap" in parts:
        bitmap = parts[f"{name}.bitmap"][2]
        alive = [bool(bitmap[place // 8] >> place % 8 & 1) for place in range(8 * len(bitmap))]
        if any(alive[size:]) or len(alive) - size > 7:
            raise ValueError(f"{name} has a bitmap that is too long")
        alive = alive[:size]
    elif f"{name}.gaps" in parts:
        dtype, _, raw = parts[f"{name}.gaps"]
        gaps, filler = (
            [gap for (gap,) in struct.iter_unpack(f"<{FORMATS[dtype]}", raw)],
            256 ** (1 + (dtype == "U16")) - 1,
        )
        if gaps and gaps[-1] == filler:
            raise ValueError(f"{name} ends in a filler")
        alive = [place for gap in gaps for place in [False] * gap + [True] * (gap < filler)]
        alive += [False] * (size - len(alive))
    if sum(alive) != len(values) or len(alive) != size:
        raise ValueError(f"{name} has {len(values)} values, {sum(alive)} alive, {len(alive)} of {size} places")
    weights, position = [0.0] * size, 0
    for place in range(size):
        if alive[place]:
            weights[place], position = values[position], position + 1
    if f"{name}.scales" in parts:
        scales = struct.unpack(f"<{record['shape'][0]}f", parts[f"{name}.scales"][2])
        per_output = size // len(scales)
        products = (weights[place] * scales[place // per_output] if alive[place] else 0.0 for place in range(size))
        weights = [struct.unpack("<f", struct.pack("<f", product))[0] for product in products]
    return struct.pack(f"<{size}{FORMATS[record['dtype']]}", *weights), alive if record["topology"] else None
