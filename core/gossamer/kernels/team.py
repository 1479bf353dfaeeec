"""The compiled side of working together: a program's tasks, one after another, by as many threads as come.

A program is a table of int64: a head, then a row for each task. Of a task's items every thread has an equal share, the
same part of each task, so that what it wrote in one task is still near when it reads it in the next. It takes them in
runs of GRAIN by adding to its counter in the row. Then, as what another thread has near is far from this one, it gives
the others a little time before it helps with their shares, and goes on when the
counter DONE says that all items are done. So no thread is waited for that has not taken an item: one that comes late,
or never, costs nothing but its help.
"""

import platform
from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.memory import peek
from gossamer.kernels.simd import INT32, INT64, Vectors, intrinsic

NAP = 20  # microseconds
LINE = 8  # columns in a cache line


class Head(IntEnum):
    """The first columns of a program."""

    TASKS = 0  # how many
    WORKERS = auto()  # how many threads may come, each with scratch memory of its own
    COME = auto()  # how many have come
    SPINS = auto()  # how many times a thread that waits looks at a counter before it naps
    PATIENCE = auto()  # how many times a thread looks before it helps with shares whose owners have come
    SLEEP = auto()  # the address of a C function that sleeps for some microseconds, or 0
    ROW = auto()  # the bytes of a row
    SELF = auto()  # the address of a C function that tells a thread's number, or 0
    CALLER = auto()  # the number of the thread that called
    HELPERS = auto()  # how many others have come
    SIZE = 16  # columns, two cache lines


class Row(IntEnum):
    """The columns of a task; its counters have cache lines of their own."""

    FUNCTION = 0  # the address of a C function of (table, worker, first item, last item + 1)
    TABLE = auto()
    FIRST = auto()
    END = auto()  # the item after the last
    GRAIN = auto()  # items that a thread takes at a time
    DONE = 8  # how many are done
    NEXT = 16  # of each thread's share, a cache line apart, the first item that no one has taken


class Series(IntEnum):
    """The columns of a table of `each`."""

    PARTS = 0  # how many
    PER_ITEM = auto()  # how many times the parts are gone through for an item
    ROUNDS = auto()  # how many times for all items
    TABLES = auto()  # the address of each worker's parts


class Part(IntEnum):
    """The columns of a part of a series: a task that does COUNT items in round k, from item FIRST + k · STRIDE on."""

    FUNCTION = 0
    TABLE = auto()
    FIRST = auto()
    COUNT = auto()
    STRIDE = auto()
    SIZE = auto()  # columns


@intrinsic
def fetch_add(_: Any, address: Any, value: Any) -> Any:
    """Add to the integer at an address, for all threads to see, and return what it was."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        pointer = builder.inttoptr(args[0], INT64.as_pointer())
        return builder.atomic_rmw("add", pointer, args[1], "acq_rel")

    return types.int64(types.int64, types.int64), emit


@intrinsic
def acquire(_: Any, address: Any) -> Any:
    """The integer at an address, and with it all that was written before it was."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], INT64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), emit


@intrinsic
def release(_: Any, address: Any, value: Any) -> Any:
    """Set the integer at an address, after all that was written before."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        builder.store_atomic(args[1], builder.inttoptr(args[0], INT64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def pause(_: Any) -> Any:
    """Tell the processor that this thread waits."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            Vectors(builder).call("llvm.x86.sse2.pause", ir.VoidType())
        elif platform.machine() in ("aarch64", "arm64"):
            Vectors(builder).call("llvm.aarch64.hint", ir.VoidType(), ir.Constant(INT32, 1))
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def call(_: Any, function: Any, table: Any, worker: Any, first: Any, end: Any) -> Any:
    """Call the C function at an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [INT64] * 4)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit


@intrinsic
def sleep(_: Any, function: Any, microseconds: Any) -> Any:
    """Call a C function of one unsigned integer at an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        kind = ir.FunctionType(INT32, [INT32])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [builder.trunc(args[1], INT32)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def ask(_: Any, function: Any) -> Any:
    """Call a C function without arguments at an address."""

    def emit(context: Any, builder: Any, signature: Any, args: Sequence[ir.Value]) -> Any:
        return builder.call(builder.inttoptr(args[0], ir.FunctionType(INT64, []).as_pointer()), [])

    return types.int64(types.int64), emit


@njit
def number(program: int) -> int:
    """The number of a thread that has come: the caller's is 0, so that at each call it has the same shares."""
    come = fetch_add(program + 8 * Head.COME, 1)
    if not peek(program, Head.SELF):
        return come
    if ask(peek(program, Head.SELF)) == peek(program, Head.CALLER):
        return 0
    return 1 + fetch_add(program + 8 * Head.HELPERS, 1)


@njit
def wait(program: int, counter: int, least: int) -> None:
    """Return when the counter is at least `least`: look for a while, then between naps."""
    looks, nap = 0, peek(program, Head.SLEEP)
    while acquire(counter) < least:
        looks += 1
        if looks < peek(program, Head.SPINS) or not nap:
            pause()
        else:
            sleep(nap, NAP)


@njit
def be_patient(program: int, counter: int, least: int) -> None:
    """Wait a little for the counter, if all threads have come."""
    looks = 0
    while acquire(counter) < least and looks < peek(program, Head.PATIENCE):
        if acquire(program + 8 * Head.COME) < peek(program, Head.WORKERS):
            return
        looks += 1
        pause()


@njit
def share(program: int, row: int, worker: int) -> int:
    """The first item of a worker's share of a task."""
    first = peek(row, Row.FIRST)
    return first + (peek(row, Row.END) - first) * worker // peek(program, Head.WORKERS)


@c_function(void(int64))
def begin(program: int) -> None:
    """Set all counters to what they are before the first thread comes."""
    release(program + 8 * Head.COME, 0)
    release(program + 8 * Head.HELPERS, 0)
    row = program + 8 * Head.SIZE
    for _ in range(peek(program, Head.TASKS)):
        for worker in range(peek(program, Head.WORKERS)):
            release(row + 8 * (Row.NEXT + LINE * worker), share(program, row, worker))
        release(row + 8 * Row.DONE, 0)
        row += peek(program, Head.ROW)


@njit
def take(program: int, row: int, worker: int, owner: int) -> int:
    """Do what is left of a share, and return how many items that were."""
    end, grain, done = share(program, row, owner + 1), peek(row, Row.GRAIN), 0
    counter = row + 8 * (Row.NEXT + LINE * owner)
    while acquire(counter) < end:
        first = fetch_add(counter, grain)
        if first < end:
            call(peek(row, Row.FUNCTION), peek(row, Row.TABLE), worker, first, min(first + grain, end))
            done += min(first + grain, end) - first
    return done


@c_function(void(int64))
def work(program: int) -> None:
    """One thread's part of a program; on return, all of it is done."""
    worker, workers = number(program), peek(program, Head.WORKERS)
    if worker >= workers:
        return
    row = program + 8 * Head.SIZE
    for _ in range(peek(program, Head.TASKS)):
        counter, items = row + 8 * Row.DONE, peek(row, Row.END) - peek(row, Row.FIRST)
        fetch_add(counter, take(program, row, worker, worker))
        be_patient(program, counter, items)
        done = 0
        for owner in range(worker + 1, worker + workers):
            done += take(program, row, worker, owner % workers)
        if done:
            fetch_add(counter, done)
        wait(program, counter, items)
        row += peek(program, Head.ROW)


@c_function(void(int64))
def alone(program: int) -> None:
    """A program by one thread."""
    row = program + 8 * Head.SIZE
    for _ in range(peek(program, Head.TASKS)):
        call(peek(row, Row.FUNCTION), peek(row, Row.TABLE), 0, peek(row, Row.FIRST), peek(row, Row.END))
        row += peek(program, Head.ROW)


@c_function(void(int64, int64, int64, int64))
def each(series: int, worker: int, first: int, end: int) -> None:
    """The items first … end-1 of a series: for each round of an item, the worker's own parts one after another."""
    parts = peek(peek(series, Series.TABLES), worker)
    rounds = min(end * peek(series, Series.PER_ITEM), peek(series, Series.ROUNDS))
    for turn in range(first * peek(series, Series.PER_ITEM), rounds):
        for k in range(peek(series, Series.PARTS)):
            part = parts + 8 * k * Part.SIZE
            start = peek(part, Part.FIRST) + turn * peek(part, Part.STRIDE)
            call(peek(part, Part.FUNCTION), peek(part, Part.TABLE), 0, start, start + peek(part, Part.COUNT))
