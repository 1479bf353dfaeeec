"""Worker processes that take one run at a time and tell of it as it goes; one that dies takes no other run with it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

Execute = Callable[[Any, Callable[[str], None]], Any]


class Failed(RuntimeError):
    """What went wrong in a worker; the message says so, the note has the traceback."""


class Worker:
    """One process, and the run that it has."""

    def __init__(self, execute: Execute) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=_work, args=(execute, there))
        self.process.start()
        there.close()
        self.run: Any = None

    def start(self, run: Any) -> None:
        """Give it a run; it must have none."""
        self.run = run
        with suppress(OSError):  # it has died: `messages` tells of it
            self.pipe.send(run)

    def message(self) -> tuple[str, Any]:
        """`line` and what the run says, `result` and its result, `failed` and the error, or `died` and how."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            return "died", f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"

    def stop(self) -> None:
        """End it, whatever it does."""
        self.process.terminate()
        self.pipe.close()


class Workers:
    """So many processes at most, started as they are needed, that call `execute(run, log)`; leaving stops them."""

    def __init__(self, count: int, execute: Execute) -> None:
        self.count, self.execute = count, execute
        self.all: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        while self.all:
            self.all.pop().stop()

    @property
    def busy(self) -> list[Worker]:
        """Those that have a run."""
        return [worker for worker in self.all if worker.run is not None]

    @property
    def free(self) -> bool:
        """Whether another run can be started at once."""
        return len(self.busy) < self.count

    def start(self, run: Any) -> None:
        """Start a run in a process that has none."""
        idle = [worker for worker in self.all if worker.run is None]
        if not idle:
            idle = [Worker(self.execute)]
            self.all += idle
        idle[0].start(run)

    def messages(self, seconds: float) -> Iterator[tuple[Any, str, Any]]:
        """What the runs tell within so many seconds, which pass where none runs: the run, and its `Worker.message`."""
        by_pipe = {worker.pipe: worker for worker in self.busy}
        for pipe in wait(list(by_pipe), seconds):
            worker = by_pipe[pipe]  # pyright: ignore[reportArgumentType]
            run, (kind, content) = worker.run, worker.message()
            if kind != "line":
                worker.run = None
            if kind == "died":
                self.all.remove(worker)
                worker.stop()
            yield run, kind, content


def _work(execute: Execute, pipe: Connection) -> None:
    """Execute what comes, until the parent goes; die quietly at Ctrl-C and SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    while True:
        try:
            run = pipe.recv()
        except EOFError:
            return
        try:
            answer = "result", execute(run, lambda line: pipe.send(("line", line)))
        except Exception as error:
            answer = "failed", portable(error)
        pipe.send(answer)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def portable(error: Exception) -> Exception:
    """The error as one that can be sent: input that a person can mend stays what it is."""
    from gossamer.errors import InputError

    if isinstance(error, InputError):
        return InputError(str(error))
    import traceback

    failed = Failed(f"{type(error).__name__}: {error}")
    failed.add_note("".join(traceback.format_exception(error)))
    return failed
