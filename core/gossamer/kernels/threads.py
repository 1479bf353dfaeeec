"""The threads that help a caller: a small pool of Python's, or, between operations of torch's, OpenMP's.

torch's OpenMP threads go on spinning for milliseconds after each of torch's own parallel loops, and other threads would
have to share the processors with them. So what runs between such loops, as training does, runs on those very threads.
Alone, the pool is better: where a processor is busy elsewhere, OpenMP waits for all of its threads, the pool for none.
"""

import ctypes
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable


class _Work:
    """A function that helpers may run while it is open."""

    def __init__(self, function: Callable[[int], None], argument: int):
        self.function, self.argument = function, argument
        self.lock, self.left = threading.Lock(), threading.Lock()
        self.open, self.inside = True, 0
        self.error: BaseException | None = None

    def help(self) -> None:
        """Run the function, unless it was closed before this helper came."""
        with self.lock:
            if not self.open:
                return
            self.inside += 1
        try:
            self.function(self.argument)
        except BaseException as error:
            self.error = error
        with self.lock:
            self.inside -= 1
            if not self.open and not self.inside:
                self.left.release()

    def close(self) -> None:
        """Let no more helpers in, wait for those inside, and raise what was raised there."""
        with self.lock:
            self.open = False
            if self.inside:
                self.left.acquire()
        with self.left:
            pass
        if self.error is not None:
            raise self.error


class _Pool:
    """Threads that sleep until there is work; as many as were ever asked for at once, made when first needed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.waiting: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self.size = 0

    def run(self, function: Callable[[int], None], argument: int, threads: int) -> None:
        """Call function(argument) here and in up to `threads` - 1 helpers at the same time."""
        with self.lock:
            while self.size < threads - 1:
                self.size += 1
                threading.Thread(target=self._serve, name=f"gossamer-{self.size}", daemon=True).start()
        work = _Work(function, argument)
        for _ in range(threads - 1):
            self.waiting.put(work)
        try:
            function(argument)
        finally:
            work.close()

    def _serve(self) -> None:
        while True:
            self.waiting.get().help()


_pool = _Pool()
_forked = False


def _renew() -> None:
    """A forked child has none of its parent's threads, OpenMP's neither."""
    global _pool, _forked
    _pool, _forked = _Pool(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@functools.cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """GOMP_parallel(function, argument, threads, 0) of the OpenMP that torch was linked with, which GNU's, Intel's and
    LLVM's have, or None.
    """
    try:
        function = ctypes.CDLL(sys.modules["torch"]._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return function


@functools.cache
def sleeper() -> int:
    """The address of the C library's usleep, or 0 where there is none."""
    function = getattr(ctypes.CDLL(None), "usleep", None) if os.name == "posix" else None
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function else 0


@functools.cache
def identity() -> int:
    """The address of the C library's pthread_self, which gives what `threading.get_ident` gives, or 0."""
    function = getattr(ctypes.CDLL(None), "pthread_self", None) if os.name == "posix" else None
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function else 0


def together(
    function: Callable[[int], None], address: int, argument: int, threads: int, beside_torch: bool = False
) -> None:
    """Call a C function, which lies at `address`, with an argument in this thread and in up to `threads` - 1 others.

    It must do all of its work however few of them come. `beside_torch` says that torch's loops run before and after.
    """
    parallel = _openmp() if beside_torch and "torch" in sys.modules and not _forked else None
    if parallel is None:
        _pool.run(function, argument, threads)
    else:
        parallel(address, argument, threads, 0)


def spread(function: Callable[[int, int, int], None], items: int, threads: int) -> None:
    """Call function(part, first, last) for `threads` equal parts of range(items), at the same time if helpers come."""
    threads = max(1, min(threads, items))
    cuts = [items * part // threads for part in range(threads + 1)]
    parts = iter(range(threads if items else 0))

    def work(_: int) -> None:
        for part in parts:
            function(part, cuts[part], cuts[part + 1])

    if threads == 1:
        work(0)
    else:
        _pool.run(work, 0, threads)
