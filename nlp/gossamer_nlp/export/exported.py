"""What is exported: documents' vectors that hold all weights, and queries that are nothing but counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.bm25 import scaled
from gossamer_nlp.index.index import Index
from gossamer_nlp.index.segment import Segment
from gossamer_nlp.model import Lexical


@dataclass(frozen=True)
class Exported:
    """Documents as vectors with the queries' weights and the idf in them: ⟨query, document⟩ is the index's score.

    segments, and kept: which of their documents are not deleted; terms and keys (D,): the name of each dimension, a
    phrase's words with a space between them, and its key; weights (D,): of a query's weight and the idf. The vectors of
    a segment are in memory at a time, whose size the index's `memory` bounds.
    """

    segments: Sequence[Segment]
    kept: Sequence[NDArray[np.int64]]
    terms: list[str]
    keys: NDArray[np.uint64]
    weights: NDArray[np.float32]
    model: Lexical

    def __len__(self) -> int:
        return sum(map(len, self.kept))

    @property
    def ids(self) -> Iterator[str]:
        """The documents' ids, in order."""
        return (segment.id(i) for segment, own in zip(self.segments, self.kept, strict=True) for i in own.tolist())

    def parts(self) -> Iterator[scipy.sparse.csr_array]:
        """The vectors of each segment's documents (n, D), columns ascending."""
        for segment, own in zip(self.segments, self.kept, strict=True):
            vectors, keys = segment.vectors()
            vectors = vectors[own]
            columns, shape = np.searchsorted(self.keys, keys)[vectors.indices], (len(own), len(self.keys))
            found = scaled(scipy.sparse.csr_array((vectors.data, columns, vectors.indptr), shape), self.weights)
            found.eliminate_zeros()
            found.sort_indices()
            yield found

    @property
    def documents(self) -> scipy.sparse.csr_array:
        """All vectors (N, D)."""
        none = scipy.sparse.csr_array((0, len(self.keys)), dtype=np.float32)
        return scipy.sparse.csr_array(scipy.sparse.vstack([none, *self.parts()], format="csr"))

    def rows(self) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float32]]]:
        """Each document's id, its dimensions, ascending, and its values."""
        ids = self.ids
        for part in self.parts():
            for start, end in zip(part.indptr[:-1].tolist(), part.indptr[1:].tolist(), strict=True):
                yield next(ids), part.indices[start:end].astype(np.int64), part.data[start:end].astype(np.float32)

    def postings(self, column: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The documents that have a dimension, ascending, and their values."""
        found = []
        for segment, numbers in zip(self.segments, self._numbers, strict=True):
            documents, values = segment.postings_of(self.keys[column])
            alive = numbers[documents] >= 0
            found.append((numbers[documents[alive]], values[alive]))
        documents, values = (np.concatenate(own) for own in zip(*found, strict=True))
        return documents, values * self.weights[column]

    @cached_property
    def _numbers(self) -> list[NDArray[np.int64]]:
        """The number here of each document of each segment, −1 where it is deleted."""
        found, first = [], 0
        for segment, own in zip(self.segments, self.kept, strict=True):
            numbers = np.full(segment.count, -1, np.int64)
            numbers[own] = np.arange(first, first + len(own))
            found.append(numbers)
            first += len(own)
        return found

    def query(self, text: str) -> scipy.sparse.csr_array:
        """How often each dimension's term stands in a text (1, D)."""
        _, keys, counts, _ = self.model.looked_up(text)
        columns = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        known = self.keys[columns] == keys if len(self.keys) else np.zeros(len(keys), bool)
        rows = np.zeros(known.sum(), np.int64)
        shape = 1, len(self.keys)
        return scipy.sparse.csr_array((counts[known].astype(np.float32), (rows, columns[known])), shape)


def of_index(index: Index) -> Exported:
    """The documents of an index; what a term counts in queries, and its idf of this moment, goes into their vectors."""
    state = index.state()
    keys = np.unique(np.concatenate([np.zeros(0, np.uint64), *(own.postings["keys"] for own in state.segments)]))
    terms, learned = [f"#{key:x}" for key in keys.tolist()], np.zeros(len(keys))

    def name(names: Sequence[str], own: NDArray[np.uint64], weights: NDArray[np.floating]) -> None:
        places = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
        for place, term, key, weight in zip(places.tolist(), names, own, weights.tolist(), strict=True):
            if keys[place] == key and not learned[place]:
                terms[place], learned[place] = term, weight

    if len(keys):
        model = index.model  # whose network may give documents terms that stand in none
        name(model.terms, model.vocabulary.hashes[: len(model.terms)], model.query_weights)
    for _, documents, _ in state.documents(1000):
        for document in documents:
            for text in index.model.texts(document):
                names, own, _, weights = index.model.looked_up(text)
                name(names, own, weights)
    kept = [np.flatnonzero(segment.gone[: segment.count] == 0) for segment in state.segments]
    weights = (learned * state.rarity(keys)).astype(np.float32)
    return Exported(state.segments, kept, terms, keys, weights, index.model)
