"""Compiled work in pieces that any threads may do, and programs made of it.

A task is a C function of (table, worker, first, end), which does the items first … end-1 of the work that its table of
int64 describes; `worker` numbers the threads, for scratch memory. A program does its tasks one after another.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gossamer.kernels.compiled import CFunction
from gossamer.kernels.team import LINE, Head, Part, Row, Series, alone, begin, each, work
from gossamer.kernels.threads import identity, sleeper, together

# Both were found by `core/benchmarks/threads.py`, whose options try other values.
PIECES = 8  # runs of items of each thread's share, of which those that are early take more
PATIENCE = 200  # looks at a counter, some microseconds, before a thread takes over what others have begun
SPINS = 2000  # looks at a counter, about 0.1 ms, before a thread that waits begins to nap


class Task(NamedTuple):
    """The items first … first + items - 1 of what a table describes; `keep` is what the table points to."""

    function: CFunction
    table: np.ndarray
    items: int
    first: int = 0
    keep: Any = None


class Program:
    """Tasks to be run one after another, each by all of `threads` threads; `beside_torch` is as in `together`."""

    def __init__(self, tasks: Sequence[Task], threads: int = 1, beside_torch: bool = False):
        self.tasks, self.threads, self.beside_torch = [task for task in tasks if task.items], threads, beside_torch
        self.lock = threading.Lock()
        row_size = Row.NEXT + LINE * threads
        size = Head.SIZE + len(self.tasks) * row_size
        memory = np.zeros(size + 7, np.int64)
        skip = -memory.ctypes.data % 64 // 8
        self.table = memory[skip : skip + size]  # from a cache line on
        self.table[Head.TASKS], self.table[Head.WORKERS] = len(self.tasks), threads
        self.table[Head.SPINS : Head.CALLER] = SPINS, PATIENCE, sleeper(), 8 * row_size, identity()
        for row, task in zip(self.table[Head.SIZE :].reshape(-1, row_size), self.tasks, strict=True):
            row[Row.FUNCTION], row[Row.TABLE] = task.function.address, task.table.ctypes.data
            row[Row.FIRST], row[Row.END] = task.first, task.first + task.items
            row[Row.GRAIN] = max(1, task.items // (threads * PIECES))
        self.most = min(threads, max((task.items for task in self.tasks), default=0))
        self.address = self.table.ctypes.data

    def __call__(self) -> None:
        """Run all tasks. Calls from several threads wait for each other."""
        with self.lock:
            if self.most <= 1:
                alone.call(self.address)
            else:
                self.table[Head.CALLER] = threading.get_ident()
                begin.call(self.address)
                together(work.call, work.address, self.address, self.most, self.beside_torch)


def in_turn(series: Sequence[Sequence[tuple[Task, int]]], rounds: int, per_item: int = 1) -> Task:
    """A task that goes through a series of tasks in each of many rounds, such as for each image of a batch.

    `series` holds for each worker, who has tables of its own, the tasks and how many items farther each begins from one
    round to the next. An item of the task is `per_item` rounds, which one worker goes through in order.
    """
    parts = np.zeros((len(series), len(series[0]), Part.SIZE), np.int64)
    for rows, tasks in zip(parts, series, strict=True):
        for row, (task, stride) in zip(rows, tasks, strict=True):
            row[...] = task.function.address, task.table.ctypes.data, task.first, task.items, stride
    tables = np.array([rows.ctypes.data for rows in parts], np.int64)
    table = np.zeros(len(Series), np.int64)
    table[Series.PARTS], table[Series.PER_ITEM], table[Series.ROUNDS] = len(series[0]), per_item, rounds
    table[Series.TABLES] = tables.ctypes.data
    return Task(each, table, -(-rounds // per_item), keep=(series, parts, tables))
