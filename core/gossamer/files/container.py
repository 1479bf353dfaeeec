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

import numpy as np

from gossamer.errors import InputError

DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "F16": np.float16,
    "BF16": np.uint16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
}
"""What NumPy reads each dtype of safetensors as: those that it lacks as whole numbers of their bits."""
NAMES = {np.dtype(kind): name for name, kind in DTYPES.items() if name not in ("F8_E4M3", "F8_E5M2", "BF16")}
OPENING = b'{"__metadata__":{"sha256":"'
DIGEST_AT = 8 + len(OPENING)
DIGITS = 64
HEADER_LIMIT = 100_000_000  # the safetensors library refuses longer ones


class Damage(Exception):
    """What is wrong with the bytes of a file; the reader adds the file's name and the remedy."""

    def of(self, source: str, writer: str) -> str:
        """The message to the person who gave the file."""
        return f"{source} is damaged, or no file of {writer}: {self}. Save or fetch it again."


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its dtype's safetensors name, its shape and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview

    @classmethod
    def of(cls, array: np.ndarray) -> "Entry":
        """The entry of an array."""
        flat = np.ascontiguousarray(array).reshape(-1)
        return cls(NAMES[array.dtype], array.shape, flat.view(np.uint8).data if flat.size else memoryview(b""))

    @property
    def width(self) -> int:
        """The bytes of an element."""
        return np.dtype(DTYPES[self.dtype]).itemsize

    def array(self) -> np.ndarray:
        """The array, in memory of its own; raise `Damage` where its bytes are no values of its dtype."""
        if self.dtype == "BOOL" and max(self.content, default=0) > 1:
            raise Damage("a bool tensor holds bytes other than 0 and 1")
        return np.frombuffer(bytearray(self.content), DTYPES[self.dtype]).reshape(self.shape)


def pack(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file that holds these entries; equal arguments give equal bytes."""
    content = bytearray(_header(entries, metadata))
    for name in _order(entries):
        content += entries[name].content
    return seal(content)


def seal(content: bytearray) -> bytes:
    """The same bytes with their digest in its place."""
    digest = _digest(memoryview(content))
    return bytes(content[:DIGEST_AT]) + digest + bytes(content[DIGEST_AT + DIGITS :])


def packed_size(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> int:
    """The number of bytes that `pack` gives, without packing."""
    return len(_header(entries, metadata)) + sum(len(entry.content) for entry in entries.values())


def unpack(content: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors and the metadata of a file; raise `Damage` where it is not, to the bit, what `pack` wrote."""
    view = memoryview(content)
    if len(view) < DIGEST_AT + DIGITS:
        raise Damage(f"it ends after {len(view)} bytes")
    length = int.from_bytes(view[:8], "little")
    if length > min(len(view) - 8, HEADER_LIMIT):
        raise Damage(f"it says that its header has {length} bytes, of {len(view)} in all")
    if view[8:DIGEST_AT] != OPENING:
        raise Damage("it does not begin as a file written by gossamer does")
    if view[DIGEST_AT : DIGEST_AT + DIGITS] != _digest(view):
        raise Damage("its checksum does not match: bytes were changed, lost or added since it was saved")
    header = parse(view[8 : 8 + length].tobytes())
    metadata = header.pop("__metadata__")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise Damage("its metadata hold something other than strings")
    return _entries(header, view[8 + length :]), metadata


def parse(text: bytes | str, *, infinite: bool = False) -> dict[str, Any]:
    """A JSON object without duplicate names and without numbers that JSON does not know, unless they are `infinite`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise Damage("its header holds the same name twice")
        return found

    def unknown(number: str) -> float:
        if infinite and number in ("Infinity", "-Infinity"):
            return float(number)
        raise Damage(f"its header holds the number {number}")

    def finite(number: str) -> float:
        return value if math.isfinite(value := float(number)) else unknown(number)

    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique, parse_constant=unknown, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise Damage(f"its header is not JSON in UTF-8 ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise Damage("its header is not a JSON object")
    return value


def is_shape(value: Any) -> bool:
    """Whether `value` is a list of integers in [0, 2^63) (true and false are none)."""
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)


def _order(entries: Mapping[str, Entry]) -> Iterable[str]:
    """Widest dtype first, so that every tensor is aligned; then by name."""
    return sorted(entries, key=lambda name: (-entries[name].width, name))


def _header(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"sha256": "0" * DIGITS, **metadata}}
    end = 0
    for name in _order(entries):
        start, end = end, end + len(entries[name].content)
        header[name] = {
            "dtype": entries[name].dtype,
            "shape": list(entries[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise InputError(
            f"the header would have {len(text)} bytes, more than {HEADER_LIMIT}. Describe the model shorter."
        )
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
        if offsets[1] - offsets[0] != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
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
