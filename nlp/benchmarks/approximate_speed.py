"""Approximate search beside Seismic (`pip install pyseismic-lsr`), on the same vectors, one thread.

OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/approximate_speed.py

The documents are those of search_speed.py with 60,000 terms, for Seismic takes 65,536 at most. Both answer one query
after the other; recall is the share of the ten best exact scores that the found ones reach. Seismic's parameters are
tried over a grid, and printed all.
"""

import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from search_speed import Options, asked, collection, found_of
from seismic import SeismicIndex, get_seismic_string  # pyright: ignore[reportAttributeAccessIssue]

from gossamer_nlp.bm25 import BM25, idf, scaled
from gossamer_nlp.index.segment import Segment
from gossamer_nlp.index.state import best


def timed(answer: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Calls a second, the median of some rounds of CPU time, and the last answer."""
    times, found = [], None
    for _ in range(rounds):
        start = time.process_time()
        found = answer()
        times.append(time.process_time() - start)
    return 1 / float(np.median(times)), found


def main(options: Options) -> None:
    """Build both, search, print."""
    counts = collection(options)
    rare = idf(counts)
    segment = Segment.of(BM25().documents(counts))
    queries = asked(counts, rare, options)
    weighted = [(query.astype(np.uint64), rare[query].astype(float)) for query in queries]
    exact = [best([segment], keys, weights, options.k) for keys, weights in weighted]
    for slack in (1.0, 0.95, 0.9, 0.85):
        speed, found = timed(
            lambda slack=slack: [best([segment], keys, weights, options.k, slack) for keys, weights in weighted],
            options.rounds,
        )
        recall = np.mean([found_of(a, b) for a, b in zip(exact, found, strict=True)])
        print(f"gossamer, slack {slack}: {speed * len(queries):.0f} queries a second, recall@{options.k} {recall:.3f}")
    held = sum(array.nbytes for array in segment.postings.values()) / options.documents
    print(f"gossamer: {held:.0f} bytes a document")
    vectors, keys = segment.vectors()
    vectors = scaled(vectors, rare[keys.astype(int)])
    asked_of = [
        (np.array([str(i) for i in query], get_seismic_string()), np.ones(len(query), np.float32)) for query in queries
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        with open(path, "w") as file:
            for row in range(options.documents):
                part = slice(vectors.indptr[row], vectors.indptr[row + 1])
                own = zip(keys[vectors.indices[part]].tolist(), vectors.data[part].tolist(), strict=True)
                entry = {"id": str(row), "content": "", "vector": {str(key): round(value, 5) for key, value in own}}
                file.write(json.dumps(entry) + "\n")
        theirs = SeismicIndex.build(str(path), n_postings=6000, max_fraction=6.0, num_threads=1, load_content=False)
        for cut, factor in itertools.product((6, 10), (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)):

            def answer(cut: int = cut, factor: float = factor):
                return [theirs.search("q", names, values, options.k, cut, factor) for names, values in asked_of]

            speed, found = timed(answer, options.rounds)
            reached = [
                sum(score >= own[-1][2] * (1 - 2e-3) for _, score, _ in hits) / max(1, len(own))
                for own, hits in zip(exact, found, strict=True)
            ]
            print(
                f"Seismic, query_cut {cut}, heap_factor {factor}: "
                f"{speed * len(queries):.0f} queries a second, recall@{options.k} {np.mean(reached):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__, default=Options(documents=200_000, terms=60_000)))
