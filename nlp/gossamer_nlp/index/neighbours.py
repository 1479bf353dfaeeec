"""Documents expanded by the terms of those nearest to them."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.bags import ranges
from gossamer_nlp.bm25 import rarity, scaled
from gossamer_nlp.evaluate import largest
from gossamer_nlp.index.folder import TEMPORARY
from gossamer_nlp.index.manifest import said
from gossamer_nlp.index.segment import Segment, invert
from gossamer_nlp.index.state import best
from gossamer_nlp.phrases import KEYS

TERMS = 30  # of a document, the weightiest, by which others are found
BORROWED = 60  # terms of others that a document gets, at most
CHUNK = 2048  # documents that are expanded at a time


def expanded(
    documents: scipy.sparse.csr_array, rare: NDArray[np.float32], count: int, share: float
) -> scipy.sparse.csr_array:
    """d + share · Σ_n s_n n / Σ_n s_n over the `count` nearest documents n of each, of which the BORROWED largest stay.

    documents (N, terms); rare: the idf of the terms (Tao et al. 2006, "Language model information retrieval with
    document expansion"; Efron et al. 2012, who also ask for the nearest as a search does).
    """
    near = nearest(documents, rare, count)
    near.data *= share / np.repeat(np.maximum(near.sum(1), 1e-9), np.diff(near.indptr))
    return scipy.sparse.csr_array(documents + largest(scipy.sparse.csr_array(near @ documents), BORROWED))


def nearest(documents: scipy.sparse.csr_array, rare: NDArray[np.float32], count: int) -> scipy.sparse.csr_array:
    """The score of the `count` others that a search for each document's weightiest terms finds first (N, N)."""
    size, terms = cast(tuple[int, int], documents.shape)
    keys = np.arange(terms, dtype=np.uint64)
    found = _found([Segment.of(documents)], documents, keys, rare, count, 0)
    return scipy.sparse.csr_array(found, (size, size))


Near = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]  # scores, documents, where each row's begin


def _found(
    segments: Sequence[Segment],
    documents: scipy.sparse.csr_array,
    keys: NDArray[np.uint64],
    rare: NDArray[np.float32],
    count: int,
    first: int,
) -> Near:
    """What searches for documents, of which the first has the number `first`, find besides themselves, by row."""
    asked = largest(scaled(documents, rare), TERMS)
    firsts = np.cumsum([0, *(segment.count for segment in segments)])
    scores, columns, pointers = [], [], [0]
    for row in range(len(asked.indptr) - 1):
        terms = asked.indices[asked.indptr[row] : asked.indptr[row + 1]]
        hits = best(segments, keys[terms], rare[terms].astype(float), count + 1) if len(terms) else []
        numbers = [(int(firsts[own]) + number, score) for own, number, score in hits]
        others = [(number, score) for number, score in numbers if number != first + row][:count]
        columns += [number for number, _ in others]
        scores += [score for _, score in others]
        pointers.append(len(columns))
    return np.array(scores, np.float32), np.array(columns, np.int64), np.array(pointers, np.int64)


def widened(
    segments: Sequence[Segment], count: int, share: float, folder: Path, name: Callable[[], str]
) -> Iterator[Segment]:
    """Segments of which nothing is deleted, anew, with their documents' words expanded; phrases stay as they are.

    All vectors lie by document in files of a temporary folder below `folder`; in memory are those of one segment, and 8
    bytes for each document.
    """
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder) as place:
        rows, first = Rows.of(segments, Path(place)), 0
        for segment in segments:
            starts = range(first, first + segment.count, CHUNK)
            ends = [min(start + CHUNK, first + segment.count) for start in starts]
            parts = [_widened(segments, rows, range(*own), count, share) for own in zip(starts, ends, strict=True)]
            keys = np.unique(np.concatenate([np.zeros(0, np.uint64), *(own for _, own in parts)]))
            placed = [
                scipy.sparse.csr_array(
                    (own.data, np.searchsorted(keys, known)[own.indices], own.indptr), (len(own.indptr) - 1, len(keys))
                )
                for own, known in parts
            ]
            vectors = scipy.sparse.csr_array(scipy.sparse.vstack(placed, format="csr"))
            first += segment.count
            yield Segment(name(), segment.count, invert(vectors, keys), segment.stored)


def _widened(
    segments: Sequence[Segment], rows: "Rows", numbers: range, count: int, share: float
) -> tuple[scipy.sparse.csr_array, NDArray[np.uint64]]:
    """Some documents' vectors with their neighbours' words, and the keys of their columns."""
    own, keys = rows.taken(np.arange(numbers.start, numbers.stop))
    rare = _rare(segments, keys)
    scores, columns, pointers = _found(segments, own, keys, np.where(keys < KEYS[0], rare, 0), count, numbers.start)
    sums = np.add.reduceat(np.append(scores, 0), pointers[:-1]) * (np.diff(pointers) > 0)
    scores = scores * np.repeat(share / np.maximum(sums, 1e-9), np.diff(pointers))
    wanted, columns = np.unique(columns, return_inverse=True)
    others, theirs = rows.taken(wanted)
    others.data[theirs[others.indices] >= KEYS[0]] = 0
    both = np.union1d(keys, theirs)
    own, others = (
        scipy.sparse.csr_array((m.data, np.searchsorted(both, k)[m.indices], m.indptr), (len(m.indptr) - 1, len(both)))
        for m, k in ((own, keys), (others, theirs))
    )
    near = scipy.sparse.csr_array((scores, columns, pointers), (len(numbers), len(wanted)))
    added = largest(scipy.sparse.csr_array(near @ others), BORROWED)
    return scipy.sparse.csr_array(own + added), both


def _rare(segments: Sequence[Segment], keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The idf of dimensions in segments of which nothing is deleted."""
    held = sum((segment.held(segment.places(keys)) for segment in segments), np.zeros(len(keys), np.int64))
    return rarity(held, sum(segment.count for segment in segments))


@dataclass(frozen=True)
class Rows:
    """Vectors by document: `pointers` (N + 1,) into their dimensions' `keys` and `values` (P,), mapped from files."""

    pointers: NDArray[np.int64]
    keys: NDArray[np.uint64]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, segments: Sequence[Segment], folder: Path) -> "Rows":
        """The vectors of segments, one after the other, written to two files of a folder."""
        lengths = [np.zeros(1, np.int64)]
        with said(folder), open(folder / "keys", "wb") as keys, open(folder / "values", "wb") as values:
            for segment in segments:
                vectors, known = segment.vectors()
                lengths.append(np.diff(vectors.indptr).astype(np.int64))
                known[vectors.indices].tofile(keys)
                vectors.data.astype(np.float32).tofile(values)
        pointers = np.cumsum(np.concatenate(lengths))
        if not pointers[-1]:
            return cls(pointers, np.zeros(0, np.uint64), np.zeros(0, np.float32))
        return cls(pointers, np.memmap(folder / "keys", np.uint64, "r"), np.memmap(folder / "values", np.float32, "r"))

    def taken(self, numbers: NDArray[np.int64]) -> tuple[scipy.sparse.csr_array, NDArray[np.uint64]]:
        """Some documents' vectors (N, D), in that order, and the keys of their columns, ascending (D,)."""
        places, owners = ranges(self.pointers, numbers)
        keys, columns = np.unique(self.keys[places], return_inverse=True)
        pointers = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(numbers)))])
        values = np.array(self.values[places])
        return scipy.sparse.csr_array((values, columns, pointers), (len(numbers), len(keys))), keys
