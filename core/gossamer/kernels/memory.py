"""Reading and writing numbers at addresses (int64, in bytes) in compiled loops."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types  # pyright: ignore[reportPrivateImportUsage]

from gossamer.kernels.simd import FLOAT, INT32, INT64, Vectors, intrinsic

ALL = 1 << 40  # floats, more than memory has


def _peek(kind: types.Type, emitted: ir.Type, size: int) -> Any:
    @intrinsic
    def peek(_: Any, address: Any, index: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
            vectors = Vectors(builder)
            return vectors.load(vectors.at(args[0], args[1], size), emitted, 4)

        return kind(types.int64, types.int64), emit

    return peek


peek = _peek(types.int64, INT64, 8)
"""peek(table, column): a column of a table of int64."""
peek_float = _peek(types.float32, FLOAT, 8)
"""peek_float(table, column): the float32 in the first half of a column."""
peek_int32 = _peek(types.int32, INT32, 4)
"""peek_int32(address, index): an element of an array of int32."""
float32_at = _peek(types.float32, FLOAT, 4)
"""float32_at(address, index): an element of an array of float32."""


@intrinsic
def poke(_: Any, address: Any, value: Any) -> Any:
    """Store a float32 at an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        Vectors(builder).store(args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), emit


def _pointer_to(kind: types.Type) -> Any:
    @intrinsic
    def pointer(_: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), emit

    return pointer


_float32_pointer, _int32_pointer, _int64_pointer = map(_pointer_to, (types.float32, types.int32, types.int64))


@njit
def floats(address: int) -> np.ndarray:
    """The float32 from an address on, as an array without an end."""
    return carray(_float32_pointer(address), ALL)


@njit
def int32s(address: int) -> np.ndarray:
    """The int32 from an address on, as an array without an end."""
    return carray(_int32_pointer(address), ALL)


@njit
def integers(address: int) -> np.ndarray:
    """The int64 from an address on, as an array without an end."""
    return carray(_int64_pointer(address), ALL)
