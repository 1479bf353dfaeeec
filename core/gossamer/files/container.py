"""The safetensors container, with a SHA-256 over header and data: packing, and parsing that trusts nothing.

A file is the header's length (8 bytes, little-endian), the header (JSON, padded with spaces to a multiple of 8) and the
tensors' bytes without a gap. The header opens with the digest, which covers every byte of the file but its own 64.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
OPENING = b'{"__metadata__":{"sha256":"'
DIGEST_AT = 8 + len(OPENING)
DIGITS = 64
HEADER_LIMIT = 100_000_000  # the safetensors library refuses longer ones


class Damage(Exception):
    """What is wrong with the bytes of a file; the reader adds the file's name and the remedy."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its dtype's safetensors name, its shape and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview

    def tensor(self) -> Tensor:
        """The tensor, in memory of its own; raise `Damage` where its bytes are no values of its dtype."""
        if self.dtype == "BOOL" and max(self.content, default=0) > 1:
            raise Damage("a bool tensor holds bytes other than 0 and 1")
        if not self.content:
            return torch.empty(self.shape, dtype=DTYPES[self.dtype])
        return torch.frombuffer(bytearray(self.content), dtype=DTYPES[self.dtype]).reshape(self.shape)


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file that holds contiguous CPU `tensors`; equal arguments give equal bytes."""
    content = bytearray(_header(tensors, metadata))
    for name in _order(tensors):
        if tensors[name].numel():
            content += tensors[name].reshape(-1).view(torch.uint8).numpy().data
    return seal(content)


def seal(content: bytearray) -> bytes:
    """The same bytes with their digest in its place."""
    digest = _digest(memoryview(content))
    return bytes(content[:DIGEST_AT]) + digest + bytes(content[DIGEST_AT + DIGITS :])


def packed_size(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """The number of bytes that `pack` gives, without packing."""
    return len(_header(tensors, metadata)) + sum(tensor.nbytes for tensor in tensors.values())


def unpack(content: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors and the metadata of a file; raise `Damage` where it is not, to the bit, what `pack` wrote."""
    view = memoryview(content)
    if len(view) < DIGEST_AT + DIGITS:
        raise Damage(f"it ends after {len(view)} bytes")
    length = int.from_bytes(view[:8], "little")
    if length > min(len(view) - 8, HEADER_LIMIT):
        raise Damage(f"it says that its header has {length} bytes, of {len(view)} in all")
    if view[8:DIGEST_AT] != OPENING:
        raise Damage("it does not begin as a file written by gossamer.save does")
    if view[DIGEST_AT : DIGEST_AT + DIGITS] != _digest(view):
        raise Damage("its checksum does not match: bytes were changed, lost or added since it was saved")
    header = parse(view[8 : 8 + length].tobytes())
    metadata = header.pop("__metadata__")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise Damage("its metadata hold something other than strings")
    return _entries(header, view[8 + length :]), metadata


def parse(text: bytes | str) -> dict[str, Any]:
    """A JSON object without duplicate names and without numbers that JSON does not know."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise Damage("its header holds the same name twice")
        return found

    def unknown(number: str) -> None:
        raise Damage(f"its header holds the number {number}")

    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique, parse_constant=unknown)
    except (ValueError, RecursionError) as error:
        raise Damage(f"its header is not JSON in UTF-8 ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise Damage("its header is not a JSON object")
    return value


def is_shape(value: Any) -> bool:
    """Whether `value` is a list of integers in [0, 2^63) (true and false are none)."""
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)


def _order(tensors: Mapping[str, Tensor]) -> Iterable[str]:
    """Widest dtype first, so that every tensor is aligned; then by name."""
    return sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"sha256": "0" * DIGITS, **metadata}}
    end = 0
    for name in _order(tensors):
        start, end = end, end + tensors[name].nbytes
        shape = list(tensors[name].shape)
        header[name] = {"dtype": NAMES[tensors[name].dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _digest(content: memoryview) -> bytes:
    digest = hashlib.sha256(content[:DIGEST_AT])
    digest.update(b"0" * DIGITS)
    digest.update(content[DIGEST_AT + DIGITS :])
    return digest.hexdigest().encode()


def _entries(header: Mapping[str, Any], data: memoryview) -> dict[str, Entry]:
    entries, spans = {}, []
    for name, fields in header.items():
        if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
            raise Damage(f"its header does not describe {name!a} by dtype, shape and data_offsets")
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise Damage(f"{name!a} has the unknown dtype {str(dtype)[:40]!a}")
        if not is_shape(shape) or len(shape) > 64:
            raise Damage(f"{name!a} has no valid shape")
        if not is_shape(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= len(data):
            raise Damage(f"the offsets of {name!a} lie outside the file")
        if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
            raise Damage(f"the offsets of {name!a} do not fit its shape and dtype")
        entries[name] = Entry(dtype, tuple(shape), data[offsets[0] : offsets[1]])
        spans.append(offsets)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise Damage("its tensors overlap or leave bytes between them")
        end = stop
    if end != len(data):
        raise Damage("bytes follow its last tensor")
    return entries
