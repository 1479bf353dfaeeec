"""A writer is killed again and again while a reader searches: what it acknowledged must be there, in whole batches.

python nlp/benchmarks/killed.py
python nlp/benchmarks/killed.py --documents 10000 --kills 20
"""

import contextlib
import itertools
import multiprocessing
import tempfile
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import tyro

from gossamer_nlp.index import Index


def write(folder: Path, start: int, batch: int, told: Connection) -> None:
    """Add documents from a number on until killed, telling how many are acknowledged; 0 before the index is open."""
    told.send(0)
    index = Index.open(folder, write=True)
    for first in itertools.count(start, batch):
        texts = (f"common word and number{i % 97} of x{i} " + "more " * (i % 30) for i in range(first, first + batch))
        index.add({"id": f"n{i}", "text": text} for i, text in enumerate(texts, first))
        told.send(first + batch)
        if first // batch % 20 == 0:
            index.commit()


@dataclass(frozen=True)
class Options:
    """How much is added, in batches of how many, and how often the writer is killed meanwhile."""

    documents: int = 100_000
    kills: int = 100
    batch: int = 10
    seed: int = 0


@dataclass(eq=False)
class Reader(threading.Thread):
    """Looks at the index all the time: it must hold the first documents, in whole batches, all that are acknowledged.

    acknowledged: documents, told by who reads what the writer prints.
    """

    folder: Path
    batch: int
    acknowledged: int = 0
    looks: int = 0
    wrong: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__()

    def run(self) -> None:
        """Refresh, search, compare, until told to end."""
        index = Index.open(self.folder)
        while not self.ended.is_set():
            least = self.acknowledged
            index.refresh()
            found = {hit.id for hit in index.search("common", len(index) + 1)}
            whole = found == {f"n{i}" for i in range(len(index))} and len(index) % self.batch == 0
            time.sleep(0.05)
            self.looks, self.wrong = self.looks + 1, self.wrong + (not whole or len(index) < least)


def killed(reader: Reader, start: int, until: int, pause: float) -> None:
    """Let a writer go on from a document until so many are acknowledged, or only begin to open, and kill it then.

    Writers are forked from a server that has imported all, so that most of the time is spent in writing.
    """
    context = multiprocessing.get_context("forkserver")
    heard, told = context.Pipe(duplex=False)
    process = context.Process(target=write, args=(reader.folder, start, reader.batch, told))
    process.start()
    told.close()
    heard.recv()
    while reader.acknowledged < until:
        reader.acknowledged = heard.recv()
    time.sleep(pause)
    process.kill()
    with contextlib.suppress(EOFError, OSError):  # the last may be torn
        while True:
            reader.acknowledged = max(reader.acknowledged, heard.recv())
    process.join()


def main(options: Options) -> None:
    """Kill at random moments, every tenth time while the writer opens the index; count what is there at the end."""
    draw, began = np.random.default_rng(options.seed), time.perf_counter()
    ends = np.sort(draw.choice(options.documents, options.kills, replace=False))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "index"
        Index.create(folder).close()
        reader = Reader(folder, options.batch)
        reader.start()
        for kill, until in enumerate([*ends[:-1].tolist(), options.documents]):
            start = len(Index.open(folder))
            opening = kill % 10 == 9 and kill < options.kills - 1
            killed(reader, start, 0 if opening else until, draw.uniform(0, 0.03))
        reader.ended.set()
        reader.join()
        index = Index.open(folder)
        lost = reader.acknowledged - sum(f"n{i}" in index for i in range(reader.acknowledged))
        seconds = time.perf_counter() - began
        print(
            f"{len(index):,} documents in batches of {options.batch}, {options.kills} kills in {seconds:.0f} s: {lost} "
            f"acknowledged documents lost, {reader.wrong} of {reader.looks:,} looks at an inconsistent state"
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
