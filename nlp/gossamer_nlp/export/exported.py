"""What is exported: documents' vectors that hold all weights, and queries that are nothing but counts."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.bm25 import scaled
from gossamer_nlp.index.index import Index
from gossamer_nlp.model import Lexical


@dataclass(frozen=True)
class Exported:
    """Documents as vectors with the queries' weights and the idf in them: ⟨query, document⟩ is the index's score.

    ids (N,), documents (N, D) CSR, terms and keys (D,): the name of each dimension, a phrase's words with a space
    between them, and its key.
    """

    ids: list[str]
    documents: scipy.sparse.csr_array
    terms: list[str]
    keys: NDArray[np.uint64]
    model: Lexical

    def query(self, text: str) -> scipy.sparse.csr_array:
        """How often each dimension's term stands in a text (1, D)."""
        _, keys, counts, _ = self.model.looked_up(text)
        columns = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        known = self.keys[columns] == keys if len(self.keys) else np.zeros(len(keys), bool)
        rows = np.zeros(known.sum(), np.int64)
        shape = 1, len(self.keys)
        return scipy.sparse.csr_array((counts[known].astype(np.float32), (rows, columns[known])), shape)

    def row(self, document: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The dimensions of a document, ascending, and its values."""
        part = slice(self.documents.indptr[document], self.documents.indptr[document + 1])
        return np.asarray(self.documents.indices[part], np.int64), np.asarray(self.documents.data[part], np.float32)


def of_index(index: Index) -> Exported:
    """The documents of an index; what a term counts in queries, and its idf of this moment, goes into their vectors."""
    ids, vectors, keys, rare = index.vectors()
    terms, learned = [f"#{key:x}" for key in keys.tolist()], np.zeros(len(keys))
    for _, documents in index.documents():
        for document in documents:
            for text in index.model.texts(document):
                names, own, _, weights = index.model.looked_up(text)
                places = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
                for place, name, key, weight in zip(places.tolist(), names, own, weights.tolist(), strict=True):
                    if keys[place] == key and not learned[place]:
                        terms[place], learned[place] = name, weight
    documents = scaled(vectors, (learned * rare).astype(np.float32))
    documents.eliminate_zeros()
    documents.sort_indices()
    return Exported(ids, documents, terms, keys, index.model)
