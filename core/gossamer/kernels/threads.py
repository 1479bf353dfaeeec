"""A small pool of threads for kernels that hold no lock."""

import os
import queue
import threading
from collections.abc import Callable


class _Pool:
    """Threads that wait for work; as many as were ever asked for at once, made when first needed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.size = 0

    def grow(self, size: int):
        with self.lock:
            while self.size < size:
                self.size += 1
                threading.Thread(target=self.work, name=f"gossamer-{self.size}", daemon=True).start()

    def work(self):
        while True:
            self.tasks.get()()


_pool = _Pool()


def _renew():
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def spread(function: Callable[[int, int, int], None], items: int, threads: int):
    """Call function(worker, first, last) on `threads` equal parts of range(items), one of them in this thread."""
    threads = min(threads, items)
    if threads <= 1:
        if items:
            function(0, 0, items)
        return
    pool = _pool
    pool.grow(threads - 1)
    cuts = [items * worker // threads for worker in range(threads + 1)]
    ends = [threading.Lock() for _ in range(threads - 1)]
    errors: list[BaseException] = []

    def part(worker):
        try:
            function(worker, cuts[worker], cuts[worker + 1])
        except BaseException as error:
            errors.append(error)
        finally:
            if worker:
                ends[worker - 1].release()

    for worker in range(1, threads):
        ends[worker - 1].acquire()
        pool.tasks.put(lambda worker=worker: part(worker))
    part(0)
    for end in ends:
        end.acquire()
    if errors:
        raise errors[0]
