"""Runs as tasks of a Ray cluster, told of as `workers` tells of processes; a machine that dies takes no run with it."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType, TracebackType
from typing import Any, Self

from gossamer.errors import InputError
from gossamer.workers import Execute, Failed, portable

PATIENCE = 5.0  # seconds in which an address must answer
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # HTTP/2's preface, as gRPC opens with
SETTINGS = 4  # the kind of frame that every HTTP/2 server answers with


class Lines:
    """What tasks have said and nobody has read yet: an actor."""

    def __init__(self) -> None:
        self.said: list[tuple[int, str]] = []

    def say(self, number: int, line: str) -> None:
        """Add a line of the task of that number."""
        self.said.append((number, line))

    def take(self) -> list[tuple[int, str]]:
        """All lines since the last call."""
        taken, self.said = self.said, []
        return taken


class Tasks:
    """As many tasks at a time as the cluster has cores, each `execute(run, log)`; leaving ends them and disconnects.

    Raises `InputError` where no cluster answers at `address`: HOST:PORT, ray://HOST:PORT, or auto for this machine's.
    """

    def __init__(self, execute: Execute, address: str) -> None:
        self.ray, self.execute = connected(address), execute
        self.work = self.ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_work)
        self.lines: Any = self.ray.remote(num_cpus=0, max_restarts=-1)(Lines).remote()
        self.running: dict[Any, tuple[int, Any]] = {}
        self.started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.ray.shutdown()

    @property
    def count(self) -> int:
        """The cores that the cluster has now."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    @property
    def busy(self) -> list[Any]:
        """The runs that have been started and have not ended."""
        return [run for _, run in self.running.values()]

    @property
    def free(self) -> bool:
        """Whether another run can be started at once."""
        return len(self.running) < self.count

    def start(self, run: Any) -> None:
        """Start a run on any machine of the cluster."""
        self.started += 1
        task = self.work.remote(self.execute, run, self.started, self.lines, os.getcwd())
        self.running[task] = self.started, run

    def messages(self, seconds: float) -> Iterator[tuple[Any, str, Any]]:
        """What the runs tell within so many seconds, as `Workers.messages` does."""
        if not self.running:
            time.sleep(seconds)
            return
        ended, _ = self.ray.wait(list(self.running), timeout=seconds)
        runs = dict(self.running.values())
        for number, line in self._taken():
            if number in runs:
                yield runs[number], "line", line
        for task in ended:
            _, run = self.running.pop(task)
            yield run, *self._answer(task)

    def _taken(self) -> list[tuple[int, str]]:
        with suppress(self.ray.exceptions.RayError):  # its machine has gone: it begins anew on another one
            return self.ray.get(self.lines.take.remote(), timeout=PATIENCE)
        return []

    def _answer(self, task: Any) -> tuple[str, Any]:
        try:
            return self.ray.get(task)
        except (
            self.ray.exceptions.RayTaskError
        ) as error:  # what came before `execute`, such as a package that is missing
            return "failed", Failed(str(error).strip().splitlines()[-1])
        except self.ray.exceptions.RayError as error:
            return "died", f"({type(error).__name__})"


def connected(address: str) -> ModuleType:
    """Ray, connected to the cluster at that address."""
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # Ray would ask 20 times where something else answers
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise InputError(
            '--ray-address needs Ray, which is not installed; type: pip install "gossamer[ray]"'
        ) from error
    if address != "auto":
        refuse_unreachable(address)
    main = threading.current_thread() is threading.main_thread()
    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f"--ray-address is {address!r}: {str(error).splitlines()[0]}") from error
    finally:
        if main:  # Ray's would exit without a word
            signal.signal(signal.SIGTERM, ours)
    return ray


def refuse_unreachable(address: str) -> None:
    """Raise `InputError` within seconds where nothing, or no gRPC server, answers; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise InputError(
            f"--ray-address is {address!r}; write HOST:PORT as `ray start` prints it, ray://HOST:10001, or auto."
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as there:
            there.sendall(HELLO)
            answer = there.recv(9)
    except OSError as error:
        reason = error.strerror or f"no answer in {PATIENCE:.0f} s"
        raise InputError(f"--ray-address is {address!r}, which cannot be reached ({reason}).") from error
    if answer[3:4] != bytes([SETTINGS]):
        raise InputError(f"--ray-address is {address!r}, where something else than a Ray cluster answers.")


def _work(execute: Execute, run: Any, number: int, lines: Any, home: str) -> tuple[str, Any]:
    """A task: execute the run, in the folder that the command runs in where this machine has it too."""
    with suppress(OSError):
        os.chdir(home)
    try:
        return "result", execute(run, lambda line: lines.say.remote(number, line))
    except Exception as error:
        return "failed", portable(error)
