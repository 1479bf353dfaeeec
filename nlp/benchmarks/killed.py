"""A writer is killed again and again while a reader searches: what it acknowledged must be there, in whole batches.

python nlp/benchmarks/killed.py
python nlp/benchmarks/killed.py --documents 10000 --kills 20
"""

import itertools
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from gossamer_nlp.index import Index

PAUSE = 0.2  # seconds between a reader's looks, so that the writer has its turn on few cores


@dataclass(frozen=True)
class Options:
    """How much is added, in batches of how many, and how often the writer is killed meanwhile."""

    documents: int = 100_000
    kills: int = 100
    batch: int = 10
    seed: int = 0


def write(folder: Path, start: int, batch: int, acknowledged: Any) -> None:
    """Add documents from a number on until killed; `acknowledged.value` is how many are acknowledged."""
    index = Index.open(folder, write=True)
    for first in itertools.count(start, batch):
        texts = (f"common word and number{i % 97} of x{i} " + "more " * (i % 30) for i in range(first, first + batch))
        index.add({"id": f"n{i}", "text": text} for i, text in enumerate(texts, first))
        acknowledged.value = first + batch
        if first // batch % 20 == 0:
            index.commit()


def look(folder: Path, batch: int, acknowledged: Any, looks: Any, wrong: Any, ended: Event) -> None:
    """Search until told to end: an index must hold the first documents, in whole batches, all acknowledged ones."""
    index = Index.open(folder)
    while not ended.wait(PAUSE):
        least = acknowledged.value
        index.refresh()
        found = {hit.id for hit in index.search("common", len(index) + 1)}
        whole = found == {f"n{i}" for i in range(len(index))} and len(index) % batch == 0
        looks.value += 1
        wrong.value += not whole or len(index) < least


def main(options: Options) -> None:
    """Kill at random moments, every tenth time while the writer opens the index; count what is there at the end.

    Processes are forked from a server that has imported all, so that most of the time is spent in writing.
    """
    draw, began = np.random.default_rng(options.seed), time.perf_counter()
    context = multiprocessing.get_context("forkserver")
    acknowledged, looks, wrong = (context.RawValue("q", 0) for _ in range(3))
    ended = context.Event()
    ends = np.sort(draw.choice(options.documents, options.kills, replace=False))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "index"
        Index.create(folder).close()
        reader = context.Process(target=look, args=(folder, options.batch, acknowledged, looks, wrong, ended))
        reader.start()
        for kill, until in enumerate([*ends[:-1].tolist(), options.documents]):
            opening = kill % 10 == 9 and kill < options.kills - 1
            start = len(Index.open(folder))
            writer = context.Process(target=write, args=(folder, start, options.batch, acknowledged))
            writer.start()
            while acknowledged.value < until and not opening and writer.is_alive():
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.1 if opening else 0.03))
            writer.kill()
            writer.join()
        ended.set()
        reader.join()
        assert reader.exitcode == 0
        index = Index.open(folder)
        lost = acknowledged.value - sum(f"n{i}" in index for i in range(acknowledged.value))
        seconds = time.perf_counter() - began
        print(
            f"{len(index):,} documents in batches of {options.batch}, {options.kills} kills in {seconds:.0f} s: {lost} "
            f"acknowledged documents lost, {wrong.value} of {looks.value:,} looks at an inconsistent state"
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
