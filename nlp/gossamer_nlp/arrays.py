"""Named arrays in one file that is mapped, not read: the safetensors format, written once and durably."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer import InputError

TYPES = {"U8": "<u1", "I8": "<i1", "U16": "<u2", "U32": "<u4", "I64": "<i8", "U64": "<u8", "F32": "<f4"}
NAMES = {np.dtype(code): name for name, code in TYPES.items()}


def write(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write arrays and a JSON-able description; whole and on the disk when this returns, else not there."""
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)  # so that each begins at a multiple of its size
    header: dict[str, Any] = {"__metadata__": {"about": json.dumps(about)}}
    end = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end := end + array.nbytes],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                file.write(np.ascontiguousarray(arrays[name]).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def open_mapped(path: Path) -> tuple[dict[str, NDArray[Any]], Any]:
    """The arrays of a file, mapped read-only, and its description; `InputError` where it is damaged."""
    try:
        content = np.memmap(path, np.uint8, "r")
        length = int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8 : 8 + length].tobytes())
        about = json.loads(header.pop("__metadata__")["about"])
        arrays = {}
        for name, entry in header.items():
            start, end = (8 + length + int(place) for place in entry["data_offsets"])
            if not 0 < start <= end <= len(content):
                raise ValueError(f"{name} lies outside the file")
            arrays[name] = content[start:end].view(TYPES[entry["dtype"]]).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}); restore it from a copy, or index the folder anew.") from error
    return arrays, about
