"""How fast documents are added, what memory that takes, and what they take on the disk.

OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/indexing.py
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/indexing.py --memory 8 --phrases 0
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/indexing.py --shuffled
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/indexing.py --memory 8 --neighbours 5
"""

import random
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from gossamer_nlp import docstrings
from gossamer_nlp.data import PACKAGES
from gossamer_nlp.index import Index
from gossamer_nlp.model import Lexical


@dataclass(frozen=True)
class Options:
    """What is added: the docstrings of installed packages, in pieces of some words."""

    documents: int = 60_000
    words: int = 30
    shuffled: bool = False
    """in random order, so that hardly a phrase stands there twice"""
    memory: int = 128
    phrases: float = 0.2
    neighbours: int = 0


def peak() -> float:
    """Megabytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(options: Options) -> None:
    """Add, close, weigh the files."""
    names = tuple(name for split in PACKAGES["docstrings-all"].values() for name in split)
    words = [word for item in docstrings.corpus(names) for word in f"{item.summary} {item.rest}".split()]
    if options.shuffled:
        random.Random(0).shuffle(words)
    texts = [" ".join(words[i : i + options.words]) for i in range(0, len(words), options.words)]
    texts = texts[: options.documents]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "index"
        with Index.create(Path(place) / "warm") as index:
            index.add([{"id": "a", "text": "compiles what is compiled"}])
        before, start, used = peak(), time.perf_counter(), time.process_time()
        with Index.create(folder, Lexical(phrases=options.phrases), memory=options.memory * 2**20) as index:
            index.add({"id": f"d{i}", "text": text} for i, text in enumerate(texts))
        seconds, used = time.perf_counter() - start, time.process_time() - used
        held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        postings = sum(a.nbytes for s in Index.open(folder)._segments for a in s.postings.values())
        print(
            f"{len(texts):,} documents: {len(texts) / seconds:,.0f} a second ({len(texts) / used:,.0f} by processor "
            f"time), {peak() - before:.0f} MB more than before, {held / len(texts):.0f} bytes each on the disk, "
            f"{postings / len(texts):.0f} of them postings"
        )
        if options.neighbours:
            before, start = peak(), time.process_time()
            with Index.open(folder, write=True) as index:
                index.use(Lexical(phrases=options.phrases, neighbours=options.neighbours))
            used = time.process_time() - start
            print(f"expanded: {1000 * used / len(texts):.2f} ms a document, {peak() - before:.0f} MB more than before")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
