"""Compiling the drivers once and keeping the machine code on disk.

Numba's own cache looks at the file of the cached function alone; here a change in any source of this package, in
Numba, in LLVM or in the processor makes a new key. The code lies below XDG_CACHE_HOME; where that cannot be written,
it is kept in memory.
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

import llvmlite
import numba
from numba.core import types
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

C_TYPES = {types.int64: ctypes.c_int64, types.float32: ctypes.c_float, types.void: None}


class Entry:
    """A function on integers and addresses, compiled at its first call, which runs it without holding the GIL."""

    def __init__(self, function: Callable, signature):
        self.function, self.signature = function, signature
        self.lock = threading.Lock()
        functools.update_wrapper(self, function)

    @functools.cached_property
    def call(self) -> Callable[..., None]:
        """The machine code as a C function."""
        with self.lock:
            self.code = CFunc(self.function, (self.signature.args, self.signature.return_type), {}, {})
            self.code._cache = _Disk(self.function)  # pyright: ignore[reportAttributeAccessIssue]
            self.code.compile()
        arguments = [C_TYPES[kind] for kind in self.signature.args]
        return ctypes.CFUNCTYPE(C_TYPES[self.signature.return_type], *arguments)(self.code.address)  # pyright: ignore

    def __call__(self, *args):
        """Run the machine code."""
        return self.call(*args)


def entry(signature) -> Callable[[Callable], Entry]:
    """Compile the decorated function for `signature`, such as `void(int64, int64)`, as an Entry."""
    return lambda function: Entry(function, signature)


def folder() -> Path:
    """Where the machine code lies; an OSError where this user has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gossamer" / "kernels"
    except RuntimeError as error:
        raise OSError("no home") from error


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

    def __init__(self, function):
        self.name = function.__name__
        self.loaded = False

    def path(self, codegen, signature) -> Path:
        key = hashlib.sha256(sources() + repr((codegen.magic_tuple(), signature)).encode())
        return folder() / f"{self.name}-{key.hexdigest()[:32]}"

    def load_overload(self, signature, context):
        """The compiled function, or None where it is missing or damaged."""
        context.refresh()
        try:
            digest, payload = self.path(context.codegen(), signature).read_bytes().split(b"\n", 1)
            if hashlib.sha256(payload).hexdigest().encode() != digest:
                return None
            result = CompileResult._rebuild(context, *pickle.loads(payload))
            self.loaded = True
            return result
        except (OSError, ValueError):
            return None

    def save_overload(self, signature, result):
        """Keep a compiled function."""
        payload = dumps(result._reduce())
        with contextlib.suppress(OSError):
            path = self.path(result.codegen, signature)
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
            os.replace(file.name, path)
