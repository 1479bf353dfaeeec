"""Documents that the log holds and no segment yet: searched from memory, and written as the next segment."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.bags import Bags, joined
from gossamer_nlp.index import log
from gossamer_nlp.index.segment import Segment, invert, store
from gossamer_nlp.model import Lexical

Stored = Mapping[str, Any]
COST = 48  # bytes that a document's term costs until it is written, about


class Pending:
    """Documents in the order of their adding; one that is added again or deleted stays as a gone one until written."""

    def __init__(self, model: Lexical) -> None:
        self.model = model
        self.ids: list[str] = []
        self.documents: list[Stored] = []
        self.bags: list[Bags] = []
        self.vectors: list[NDArray[np.int8]] = []
        self.alive: dict[str, int] = {}
        self.bytes = 0
        self._segment: Segment | None = None

    def add(
        self,
        ids: Sequence[str],
        documents: Sequence[Stored],
        vectors: NDArray[np.int8] | None = None,
        read: Mapping[str, str] | None = None,
    ) -> None:
        """Take in documents, with their vectors (N, D) in an index that has these; one with an id that is pending
        replaces it. read: what the model's network has made of them, as `recorded`, which otherwise reads them here.
        """
        if vectors is not None:
            self.vectors.append(vectors)
            self.bytes += vectors.nbytes
        counted = self.model.count(documents, read=read is None)
        if read is not None:
            counted = replace(counted, context=restored(read, self.model.vocabulary.hashes))
        self.bags.append(counted)
        self.bytes += COST * (len(counted.terms) + (len(counted.phrases.terms) if counted.phrases else 0))
        for name, document in zip(ids, documents, strict=True):
            self.alive[name] = len(self.ids)
            self.ids.append(name)
            self.documents.append(document)
            self.bytes += 2 * sum(len(text) for text in document.values() if isinstance(text, str)) + 200
        self._segment = None

    def delete(self, name: str) -> bool:
        """Whether a document with that id was pending; it is not any more."""
        found = self.alive.pop(name, None) is not None
        if found:
            self._segment = None
        return found

    def lengths(self) -> NDArray[np.float64]:
        """The number of terms of each field of all documents taken in (F,)."""
        return sum((bags.lengths.sum(0, np.float64) for bags in self.bags), np.zeros(len(self.model.fields)))

    def segment(self, lengths: Sequence[float], documents: int, name: str = "pending") -> Segment:
        """The documents as a segment, weighed by the mean lengths of these and the `documents` before them."""
        if self._segment is None or self._segment.name != name:
            before = np.array(lengths) if len(lengths) else np.zeros(len(self.model.fields))
            mean = (before + self.lengths()) / max(documents + len(self.ids), 1)
            kept = sorted(self.alive.values())
            counted = joined(self.bags) if self.bags else self.model.count([])
            vectors = self.model.weigh(counted, mean)[kept]
            ids, fields = [self.ids[i] for i in kept], [self.documents[i] for i in kept]
            dense = np.concatenate(self.vectors)[kept] if self.vectors else None
            self._segment = Segment(name, len(kept), invert(vectors, self.model.keys), store(ids, fields, dense))
        return self._segment


def recorded(model: Lexical, documents: Sequence[Stored]) -> dict[str, str]:
    """What a model's network makes of documents, for the log: no process has to read them again."""
    context = model.count(documents).context
    assert context is not None
    return {
        "pointers": log.text(context.indptr.astype(np.int64)),
        "keys": log.text(model.vocabulary.hashes[context.indices]),
        "values": log.text(context.data.astype(np.float32)),
    }


def restored(read: Mapping[str, str], keys: NDArray[np.uint64]) -> scipy.sparse.csr_array:
    """What was `recorded`, its columns the terms with these keys (N, terms)."""
    pointers, own = log.numbers(read["pointers"], np.int64), log.numbers(read["keys"], np.uint64)
    order = np.argsort(keys)
    columns = order[np.searchsorted(keys, own, sorter=order)]
    context = scipy.sparse.csr_array(
        (log.numbers(read["values"], np.float32), columns, pointers), (len(pointers) - 1, len(keys))
    )
    context.sort_indices()  # as the terms of bags are
    return context
