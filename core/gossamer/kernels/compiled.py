"""Compiling the loops once and keeping their machine code on disk.

Numba's own cache looks at the file of the cached function alone; here a change in any source of this package, in
Numba, in LLVM or in the processor makes a new key. The code lies below XDG_CACHE_HOME; where that cannot be written,
it is kept in memory.

This cache is the one exception to the rule that Gossamer never executes what it loads: its files hold machine code in
a pickle of Numba's. They never travel with a model, and are read only from a folder that is this user's and that no
one else may write to. Their checksum finds damage; who can write there could as well change the program itself.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import types
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from gossamer.paths import cache

C_TYPES = {types.int64: ctypes.c_int64, types.float32: ctypes.c_float, types.void: None}


class CFunction:
    """A function on integers and addresses, compiled at its first call, which runs it without holding the GIL."""

    def __init__(self, function: Callable[..., None], signature: Any):
        self.function, self.signature = function, signature
        self.lock = threading.Lock()
        functools.update_wrapper(self, function)

    @functools.cached_property
    def code(self) -> CFunc:
        """The machine code."""
        with self.lock:
            code = CFunc(self.function, (self.signature.args, self.signature.return_type), {}, {})
            code._cache = _Disk(self.function)  # pyright: ignore[reportAttributeAccessIssue]
            code.compile()
            return code

    @property
    def address(self) -> int:
        """Where the machine code begins."""
        return self.code.address  # pyright: ignore[reportReturnType]

    @functools.cached_property
    def call(self) -> Callable[..., None]:
        """The machine code as a function of Python's."""
        arguments = [C_TYPES[kind] for kind in self.signature.args]
        return ctypes.CFUNCTYPE(C_TYPES[self.signature.return_type], *arguments)(self.address)

    def __call__(self, *args: int | float) -> None:
        """Run the machine code."""
        return self.call(*args)


def c_function(signature: Any) -> Callable[[Callable[..., None]], CFunction]:
    """Compile the decorated function for `signature`, such as `void(int64, int64)`, as a C function."""
    return lambda function: CFunction(function, signature)


def folder() -> Path:
    """Where the machine code lies; an OSError where this user has no home."""
    return cache("kernels")


def is_private(place: Path) -> bool:
    """Say whether this folder is this user's, and no one else may write to it."""
    if not hasattr(os, "getuid"):
        return True  # Windows keeps a user's folders to that user
    status = place.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


@functools.cache
def sources() -> bytes:
    """A digest of this package's sources and of what compiles them."""
    return digest(Path(__file__).parent)


def digest(package: Path) -> bytes:
    """A digest of the sources in a folder and of what compiles them."""
    versions = numba.__version__, llvmlite.__version__, sys.version_info[:3]
    state = hashlib.sha256(repr(versions).encode())
    for path in sorted(package.glob("*.py")):
        state.update(path.name.encode() + b"\0" + path.read_bytes())
    return state.digest()


class _Disk:
    """A function's machine code on disk, in the place of Numba's cache."""

    def __init__(self, function: Callable[..., None]):
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.loaded = False

    def path(self, codegen: Any, signature: Any) -> Path:
        key = hashlib.sha256(sources() + repr((codegen.magic_tuple(), signature)).encode())
        return folder() / f"{self.name}-{key.hexdigest()[:32]}"

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled function, or None where it is missing, damaged or in a folder that others may write to."""
        context.refresh()
        try:
            path = self.path(context.codegen(), signature)
            digest, payload = path.read_bytes().split(b"\n", 1)
            if not is_private(path.parent) or hashlib.sha256(payload).hexdigest().encode() != digest:
                return None
            result = CompileResult._rebuild(context, *pickle.loads(payload))
            self.loaded = True
            return result
        except (OSError, ValueError):
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function."""
        payload = dumps(result._reduce())
        with contextlib.suppress(OSError):
            path = self.path(result.codegen, signature)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
            os.replace(file.name, path)
