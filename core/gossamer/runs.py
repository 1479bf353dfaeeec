"""Runs many configurations in worker processes, one thread each, and keeps every result the moment it is there."""

import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer import domains
from gossamer.errors import InputError
from gossamer.results import Result, config_hash, plain


@dataclass(frozen=True)
class Run:
    """One configuration of one domain."""

    domain: str
    config: Any

    def path(self, folder: Path) -> Path:
        """Where its result lives below the results folder."""
        return folder / self.domain / f"{config_hash(self.domain, plain(self.config))}.json"

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
        flag = name.replace("_", "-")
        shown = name.upper() if name in places else str(value)
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", shown]
    return " ".join(words)


def execute(run: Run) -> Result:
    """The result of one run, in this process, with its command."""
    result = domains.load(run.domain).run(run.config)
    return dataclasses.replace(result, command=command(run.domain, run.config))


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    """Die quietly at Ctrl-C, and compute on one thread, so that the workers neither fight nor differ."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)


def run_all(runs: Sequence[Run], folder: Path) -> Generator[tuple[Run, Result | Exception], None, None]:
    """Run all whose result is not in `folder`, save each there, and yield it, or what went wrong, as it ends.

    The numbers are those of one thread, whatever the number of workers (one a core). A run that fails does not stop the
    others. Closing the generator stops the workers: use it under `contextlib.closing`, lest a caller that stops waits.
    """
    waiting = [run for run in runs if not run.path(folder).exists()]
    if not waiting:
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers: torch reads it when it is imported
    context = multiprocessing.get_context("spawn")
    workers = min(len(waiting), cores())
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        futures = {pool.submit(execute, run): run for run in waiting}
        for future in as_completed(futures):
            try:
                result = future.result()
                result.save(folder)
                yield futures[future], result
            except (InputError, ArithmeticError, RuntimeError, OSError, ValueError) as error:
                yield futures[future], error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - before:
            worker.terminate()
