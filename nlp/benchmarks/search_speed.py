"""Exact search over a million documents beside bm25s with Numba, on the same vectors, one thread.

OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/search_speed.py
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python nlp/benchmarks/search_speed.py --documents 200000

Documents are synthetic, with the statistics of text: terms by Zipf's law, lengths log-normal with a median of 30
words. A query is 2 to 8 words of one document, rare ones likelier. Both get the vectors as the index keeps them, in 8
bits, and must find the same scores, ties aside. Times are the CPU time of the process: a busy machine hardly counts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bm25s
import numpy as np
import scipy.sparse
import tyro
from bm25s.tokenization import Tokenized

from gossamer_nlp.bm25 import BM25, idf
from gossamer_nlp.index.segment import Segment
from gossamer_nlp.index.state import best


@dataclass(frozen=True)
class Options:
    """How much is searched."""

    documents: int = 1_000_000
    terms: int = 300_000
    queries: int = 300
    k: int = 10
    rounds: int = 5
    seed: int = 0


def collection(options: Options) -> scipy.sparse.csr_array:
    """Term counts of synthetic documents (documents, terms)."""
    draw = np.random.default_rng(options.seed)
    share = 1 / (np.arange(options.terms) + 10.0) ** 1.05
    lengths = np.clip(draw.lognormal(3.4, 0.5, options.documents), 5, 200).astype(int)
    terms = np.searchsorted(np.cumsum(share / share.sum()), draw.random(lengths.sum())).clip(max=options.terms - 1)
    rows = np.repeat(np.arange(options.documents), lengths)
    shape = options.documents, options.terms
    return scipy.sparse.csr_array(scipy.sparse.coo_array((np.ones(len(rows), np.float32), (rows, terms)), shape))


def asked(counts: scipy.sparse.csr_array, rare: np.ndarray, options: Options) -> list[np.ndarray]:
    """Queries: some words of a random document each."""
    draw, found = np.random.default_rng(options.seed + 1), []
    for row in draw.integers(0, options.documents, options.queries):
        own = counts.indices[counts.indptr[row] : counts.indptr[row + 1]]
        weights = rare[own] / rare[own].sum()
        found.append(draw.choice(own, min(len(own), draw.integers(2, 9)), replace=False, p=weights))
    return found


def peer(segment: Segment, rare: np.ndarray, queries: list[np.ndarray], options: Options) -> Callable[[], Any]:
    """Bm25s with Numba over the stored vectors times idf, as a function that answers all queries."""
    vectors, keys = segment.vectors()
    columns = scipy.sparse.csc_array(vectors)
    data = columns.data * np.repeat(rare[keys.astype(int)], np.diff(columns.indptr))
    index = bm25s.BM25(method="lucene", backend="numba")
    index.scores = {
        "data": data.astype(np.float32),
        "indices": columns.indices.astype(np.int32),
        "indptr": columns.indptr.astype(np.int64),
        "num_docs": options.documents,
    }
    index.nonoccurrence_array = None
    index.vocab_dict = {str(i): i for i in range(len(keys))}
    index.unique_token_ids_set = set(range(len(keys)))
    index.activate_numba_scorer()
    places = {int(key): i for i, key in enumerate(keys)}
    tokens = Tokenized([[places[int(term)] for term in query] for query in queries], index.vocab_dict)
    return lambda: index.retrieve(tokens, k=options.k, show_progress=False, n_threads=1)


def main(options: Options) -> None:
    """Build, check, measure, print."""
    counts = collection(options)
    rare = idf(counts)
    start = time.process_time()
    segment = Segment.of(BM25().documents(counts))
    held = sum(array.nbytes for array in segment.postings.values()) / options.documents
    print(f"{options.documents:,} documents, {counts.nnz:,} non-zeros; inverted in {time.process_time() - start:.0f} s")
    print(f"{held:.0f} bytes a document; 384 float32 numbers are 1,536")
    queries = asked(counts, rare, options)
    weighted = [(query.astype(np.uint64), rare[query].astype(float)) for query in queries]

    def ours(slack: float = 1.0):
        return [best([segment], keys, weights, options.k, slack) for keys, weights in weighted]

    theirs = peer(segment, rare, queries, options)
    exact, other = ours(), theirs()
    for mine, scores in zip(exact, other.scores, strict=True):
        assert np.allclose([score for _, _, score in mine], scores[: len(mine)], rtol=1e-5)
    print(f"the same {options.k} best scores for all {len(queries)} queries")
    times: dict[str, list[float]] = {"gossamer": [], "bm25s": []}
    single = []
    for _ in range(options.rounds):
        for name, answer in (("gossamer", ours), ("bm25s", theirs)):
            start = time.process_time()
            answer()
            times[name].append(len(queries) / (time.process_time() - start))
        for keys, weights in weighted:
            start = time.process_time()
            best([segment], keys, weights, options.k)
            single.append(1000 * (time.process_time() - start))
    mine, peers = (float(np.median(times[name])) for name in ("gossamer", "bm25s"))
    print(
        f"queries a second, median of {options.rounds} rounds: {mine:.0f}, bm25s {peers:.0f}; ratio {mine / peers:.2f}"
    )
    print(f"one query: p50 {np.percentile(single, 50):.2f} ms, p99 {np.percentile(single, 99):.1f} ms")
    for slack in (0.95, 0.9, 0.8):
        start = time.process_time()
        found = ours(slack)
        speed = len(queries) / (time.process_time() - start)
        recall = np.mean([found_of(a, b) for a, b in zip(exact, found, strict=True)])
        print(f"slack {slack}: {speed:.0f} queries a second, recall@{options.k} {recall:.3f}")


def found_of(exact: list[tuple[int, int, float]], other: list[tuple[int, int, float]]) -> float:
    """The share of the exact hits' scores that the other hits reach: hits of equal score are as good."""
    least = exact[-1][2] if exact else 0.0
    return sum(score >= least for _, _, score in other) / max(1, len(exact))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
