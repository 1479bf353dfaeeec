"""The documents of one moment, to search and to explain, whatever is written meanwhile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer import InputError
from gossamer_nlp.bm25 import rarity
from gossamer_nlp.index import merging
from gossamer_nlp.index.dense import Dense, worth
from gossamer_nlp.index.segment import FIXED, NONE, Segment
from gossamer_nlp.model import Lexical

MEANING = "(meaning)"  # what `explain` calls the part of a score that is no term's


@dataclass(frozen=True)
class Hit:
    """A document that was found: its id, its score, and the fields that were added."""

    id: str
    score: float
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Match:
    """What a query's term adds to a document's score; `literal` where the document holds the term itself.

    `MEANING` is no term but the cosine of the encoder's vectors, in an index that has them.
    """

    term: str
    score: float
    literal: bool


@dataclass(frozen=True)
class Asked:
    """A query as the kernels take it: its terms, their keys and weights (T,); its vector (D,), and what that counts.

    The vector is empty where words count alone.
    """

    terms: list[str]
    keys: NDArray[np.uint64]
    weights: NDArray[np.float64]
    vector: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    scale: float = 0.0

    def cosines(self, segment: Segment, rows: slice = slice(None)) -> NDArray[np.int64]:
        """What the cosine adds to the score of each of a segment's documents."""
        return segment.cosines(self.vector, self.scale, rows)


@dataclass(frozen=True)
class State:
    """Segments that stay as they are but for deletions, the model that weighs a query's terms, and its encoder."""

    segments: Sequence[Segment]
    model: Lexical
    dense: Dense | None = None

    def documents(self, batch: int) -> Iterator[tuple[list[str], Sequence[Mapping[str, Any]], NDArray[np.int8] | None]]:
        """Ids, stored fields, and vectors where there are some, of all documents, `batch` at a time or less."""
        for segment in self.segments:
            kept = np.flatnonzero(segment.gone[: segment.count] == 0)
            vectors = segment.stored.get("vectors")
            for start in range(0, len(kept), batch):
                part = kept[start : start + batch]
                numbers = part.tolist()
                ids = [segment.id(number) for number in numbers]
                yield ids, segment.fields(numbers), None if vectors is None else vectors[part]

    def asked(self, query: str, meaning: float) -> Asked:
        """A query's terms with their weights by the documents of this moment.

        With an encoder, the weights of terms that documents have sum to 1, and a cosine counts `meaning`.
        """
        terms, keys, weights = self.model.query(query)
        rare, held = self._rarity(keys)
        weights = weights * rare
        if self.dense is None or not meaning or not query.strip():
            return Asked(terms, keys, weights)
        vector = self.dense.query(query)
        weights = weights / max(float(weights[held > 0].sum()), 1e-12)
        weights[held == 0] = 0
        return Asked(terms, keys, weights, vector, meaning * float(worth(vector)) * 2**FIXED)

    def search(self, asked: Asked, k: int, slack: float) -> list[Hit]:
        """The k documents with the best scores above 0, best first; fewer where fewer have a term of the query."""
        bases = [asked.cosines(segment) for segment in self.segments]
        found = best(self.segments, asked.keys, asked.weights, k, slack, bases)
        wanted: dict[int, list[int]] = {}
        for segment, document, _ in found:
            wanted.setdefault(segment, []).append(document)
        fields = {
            (segment, document): own
            for segment, documents in wanted.items()
            for document, own in zip(documents, self.segments[segment].fields(documents), strict=True)
        }
        return [Hit(self.segments[s].id(d), score, fields[s, d]) for s, d, score in found]

    def explain(self, asked: Asked, name: str) -> list[Match] | None:
        """What each term of a query adds to a document's score, most first; None where it is not there."""
        for segment in self.segments:
            if (number := segment.find(name)) >= 0:
                parts = segment.parts(number, asked.keys, asked.weights)
                own = self.model.named(segment.fields([number])[0])
                found = [Match(t, float(p), t in own) for t, p in zip(asked.terms, parts, strict=True) if p > 0]
                cosine = asked.cosines(segment, slice(number, number + 1))
                found += [Match(MEANING, score / 2**FIXED, True) for score in cosine.tolist() if score]
                return sorted(found, key=lambda match: -match.score)
        return None

    def vectors(self) -> tuple[list[str], scipy.sparse.csr_array, NDArray[np.uint64], NDArray[np.float64]]:
        """All documents' ids, vectors (N, D) as they are stored, the dimensions' keys, and the idf of each (D,)."""
        if not self.segments:
            return [], scipy.sparse.csr_array((0, 0), dtype=np.float32), np.zeros(0, np.uint64), np.zeros(0)
        vectors, keys, kept = merging.together(self.segments)
        ids = [segment.id(i) for segment, own in zip(self.segments, kept, strict=True) for i in own.tolist()]
        return ids, vectors, keys, self.rarity(keys)

    def rarity(self, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
        """The idf of dimensions by the documents of this moment (D,)."""
        return self._rarity(keys)[0]

    def _rarity(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The idf of dimensions by the documents of this moment, and how many documents have each."""
        held = sum((segment.held(segment.places(keys)) for segment in self.segments), np.zeros(len(keys), np.int64))
        total = max(sum(segment.count for segment in self.segments), 1)
        return rarity(held, total).astype(np.float64), held


def best(
    segments: Sequence[Segment],
    keys: NDArray[np.uint64],
    weights: NDArray[np.float64],
    k: int,
    slack: float = 1.0,
    bases: Sequence[NDArray[np.int64]] = (),
) -> list[tuple[int, int, float]]:
    """Segment, number in it, and score of the k best documents for a query's keys and weights, best first.

    bases: what the scores of each segment's documents begin with, if not 0.
    """
    if (weights < 0).any() or not np.isfinite(weights).all():
        raise InputError("a query's vector holds a negative, infinite or undefined value; give values from 0 up.")
    firsts = np.cumsum([0, *(len(segment.gone) for segment in segments)])
    k = min(k, max(int(firsts[-1]), 1))
    scores, documents, size = np.zeros(k, np.int64), np.zeros(k, np.int64), 0
    for segment, base, first in zip(segments, bases or [NONE] * len(segments), firsts.tolist(), strict=False):
        size = segment.best(keys, weights, base, first, slack, scores, documents, size)
    order = np.lexsort((documents[:size], -scores[:size]))
    numbers = documents[order]
    owners = np.searchsorted(firsts, numbers, "right") - 1
    found = scores[order] / 2**FIXED
    return list(zip(owners.tolist(), (numbers - firsts[owners]).tolist(), found.tolist(), strict=True))
