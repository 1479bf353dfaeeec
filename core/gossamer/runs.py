"""Runs many configurations side by side, one thread each, and keeps every result the moment it is there."""

import dataclasses
import errno
import json
import os
import shlex
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from gossamer import domains, failures
from gossamer.errors import InputError
from gossamer.options import flag
from gossamer.results import Result, defaults, differing, file_name, plain, read
from gossamer.threads import cores, use_threads
from gossamer.workers import Failed, Workers

if TYPE_CHECKING:
    from gossamer.cluster import Tasks

LOOK = 1.0  # seconds between two looks at what other processes do


class Notice(str):
    """A line that is not a run's own: what befell it."""


@dataclass(frozen=True)
class Run:
    """One configuration of one domain."""

    domain: str
    config: Any

    @property
    def name(self) -> str:
        """What its files are called; a new field of the configuration with a default leaves it as it is."""
        return file_name(plain(self.config), defaults(type(self.config)))

    def path(self, folder: Path) -> Path:
        """Where its result is written below the results folder."""
        return folder / self.domain / f"{self.name}.json"

    def __str__(self) -> str:
        return f"{self.domain} {self.config.method} seed {self.config.seed}"


def command(domain: str, config: Any) -> str:
    """The command line that gives this configuration: the nearest preset and what differs from it.

    Of the files and folders that `config.places` names, the data's alone is given, by its option's name in capitals.
    """
    presets = domains.load(domain).PRESETS
    places = set(getattr(config, "places", ()))

    def difference(preset: str) -> dict[str, Any]:
        base = presets[preset]
        names = [f.name for f in dataclasses.fields(config) if f.name not in places - {"data_dir"}]
        values = {name: getattr(config, name) for name in names}
        return {name: value for name, value in values.items() if value != getattr(base, name)}

    preset = min(presets, key=lambda name: len(difference(name)))
    words = ["gossamer", "train", domain, preset]
    for name, value in difference(preset).items():
        option = flag(type(config), name)
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif name in places:
            words += [option, name.upper()]
        else:
            parts = value if isinstance(value, tuple | list) else (value.name if isinstance(value, Path) else value,)
            words += [option, *(shlex.quote(str(part)) for part in parts)]
    return " ".join(words)


def execute(run: Run, log: domains.Log = lambda line: None, threads: int | None = None) -> Result:
    """The result of one run, in this process, with its command, computed by so many threads or by torch's own number.

    Where several runs are compared it is one, so that the numbers do not depend on the machine's cores.
    """
    if threads:
        use_threads(threads)
    start = time.perf_counter()
    with domains.needing(run.domain):
        result = domains.load(run.domain).run(run.config, log)
    seconds = time.perf_counter() - start
    return dataclasses.replace(result, command=command(run.domain, run.config), seconds=seconds)


def pool(address: str | None = None) -> "Workers | Tasks":
    """What executes runs: a process for each of this machine's cores, or the Ray cluster at that address.

    Raises `InputError` where Ray is not installed, or no cluster answers.
    """
    alone = partial(execute, threads=1)
    if address:
        from gossamer.cluster import Tasks

        return Tasks(alone, address)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers: torch reads it when it is imported
    return Workers(cores(), alone)


def finished(runs: Sequence[Run], folder: Path, damaged: list[str] | None = None) -> dict[Run, Result]:
    """The results in `folder` of those runs that have one, found by what was run, whatever the file's name.

    What is wrong with a file that is no result is added to `damaged`; its run is not finished.
    """
    there: dict[str, list[Result]] = {}
    by_content: dict[tuple[str, ...], dict[str, Result]] = {}
    found: dict[Run, Result] = {}
    for run in runs:
        if run.domain not in there:
            there[run.domain] = read(folder, run.domain, [] if damaged is None else damaged)
        own = plain(run.config)
        kind = (run.domain, *own)  # a run is known by these fields; which of them are places may differ from run to run
        if kind not in by_content:
            by_content[kind] = _by_content(there[run.domain], defaults(type(run.config)), list(own))
        if result := by_content[kind].get(json.dumps(own)):
            found[run] = result
    return found


def _by_content(results: Sequence[Result], default: dict[str, Any], names: Sequence[str]) -> dict[str, Result]:
    """The results by these fields of their configurations; what one lacks has its default."""
    configs = [({**default, **result.config}, result) for result in results]
    return {json.dumps({name: config.get(name) for name in names}): result for config, result in configs}


def run_all(
    runs: Sequence[Run],
    folder: Path,
    tell: Callable[[Run, str], None] = lambda run, line: None,
    where: "Workers | Tasks | None" = None,
) -> Generator[tuple[Run, Result | Exception], None, None]:
    """Run all whose result is not in `folder`, save each there, and yield it, or what went wrong, as it ends.

    The numbers are those of one thread, whatever the number of workers. A run that fails does not stop the others, and
    leaves a `failures.Failure`; one whose worker dies is run once more. They run in `pool()`, or `where` is said, which
    is left at the end. A run that another process has begun, for the same folder, is left
    to it, and taken over should it end without a result. What runs say on the way goes to `tell`, a `Notice` of what
    befell one too. Closing the generator stops the workers: use it under `contextlib.closing`, lest a caller that stops
    waits.
    """
    there = finished(runs, folder)
    waiting = deque(run for run in runs if run not in there)
    deaths: Counter[Run] = Counter()
    with where or pool() as workers, _claims() as claims:

        def begin() -> Iterator[tuple[Run, Result]]:
            """Start as many as there is room for; yields those that another process has ended meanwhile."""
            for _ in range(len(waiting) if workers.free else 0):
                run = waiting.popleft()
                claim = claims.get(run) or _claim(run, folder)
                if claim is None:
                    waiting.append(run)
                elif result := _stored(run, folder):
                    _release(claim)
                    yield run, result
                else:
                    claims[run] = claim
                    workers.start(run)
                    if not workers.free:
                        break

        while waiting or workers.busy:
            yield from begin()
            if waiting and not workers.busy:
                tell(waiting[0], Notice("another process on this folder has this run; waiting for it"))
            for run, kind, content in workers.messages(LOOK):
                if kind == "line":
                    tell(run, content)
                elif kind == "died" and not deaths[run]:
                    deaths[run] += 1
                    waiting.appendleft(run)
                    tell(run, Notice(f"its process died {content}; it is run once more"))
                else:
                    yield from begin()  # its worker need not wait until the result is written
                    if kind == "result":
                        content = _save(run, content, folder, tell)
                    elif kind == "died":
                        content = Failed(f"its process died {content}, twice; it may need more memory")
                    _note(run, content, folder)
                    yield run, content
                    _release(claims.pop(run))


@contextmanager
def _claims() -> Iterator[dict[Run, FileLock]]:
    """The locks that are held, released at the end."""
    held: dict[Run, FileLock] = {}
    try:
        yield held
    finally:
        for lock in held.values():
            _release(lock)


def _claim(run: Run, folder: Path) -> FileLock | None:
    """The lock on a run, held, or None where another process has it; it ends with the process, whatever ends that."""
    path = run.path(folder)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _release(lock: FileLock) -> None:
    with suppress(OSError):  # Windows removes no file that is open
        os.unlink(lock.lock_file)
    lock.release(force=True)


def _note(run: Run, outcome: Result | Exception, folder: Path) -> None:
    """Keep what went wrong, or forget what once did; where it can't be written, it is told all the same."""
    with suppress(OSError):
        if isinstance(outcome, Exception):
            failures.Failure(
                domain=run.domain,
                method=run.config.method,
                seed=run.config.seed,
                error=str(outcome),
                command=command(run.domain, run.config),
                config=plain(run.config),
            ).save(run.path(folder))
        else:
            failures.forget(run.path(folder))


def _stored(run: Run, folder: Path) -> Result | None:
    """The result that another process has written since the run was found to have none."""
    with suppress(InputError):
        if run.path(folder).exists():
            result = Result.load(run.path(folder))
            return None if differing(result.config, run.config) else result


def _save(run: Run, result: Result, folder: Path, tell: Callable[[Run, str], None]) -> Result | Exception:
    """Write the result; while the disk is full, keep it and try again."""
    while True:
        try:
            result.save(folder, run.name)
            return result
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                return error
            tell(run, Notice(f"its result cannot be written ({error.strerror}); make room: it is tried again"))
            time.sleep(LOOK)
