"""The search systems that are compared: each scores all documents for queries, and knows what its index takes."""

from typing import Any, Protocol

import numpy as np
import scipy.sparse

from gossamer_nlp import bm25
from gossamer_nlp.data import Collection
from gossamer_nlp.embeddings import Encoder, SparseProjection, TermWeights
from gossamer_nlp.evaluate import Scores, encode, metrics, posting_bytes, ranking, scores
from gossamer_nlp.features import Features

BLENDS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)


class System(Protocol):
    """A search system over a collection."""

    def scores(self, split: str, rows: slice) -> Scores:
        """The scores of all documents for some queries of a split: (queries, documents)."""
        ...

    def facts(self) -> dict[str, Any]:
        """The index's bytes, the densities of codes, and what was chosen on the development part, for `extra`."""
        ...


class Lexical:
    """BM25 by bm25s, tuned on the development part."""

    def __init__(self, collection: Collection) -> None:
        self.queries = {split: [terms for terms, _ in judged] for split, judged in collection.queries.items()}
        self.index, self.settings = bm25.tuned(collection)

    def scores(self, split: str, rows: slice) -> Scores:
        """The scores of all documents for some queries of a split: (queries, documents)."""
        return bm25.scores(self.index, self.queries[split][rows], self.settings["stopwords"])

    def facts(self) -> dict[str, Any]:
        """As `System` says."""
        postings, documents = len(self.index.scores["data"]), self.index.scores["num_docs"]
        return {
            "index_bytes": posting_bytes(postings, documents, len(self.index.scores["indptr"])),
            "active_per_document": postings / documents,
            **self.settings,
        }


class Embedded:
    """An encoder and the codes of all documents: an inverted index where they are sparse, a matrix where dense."""

    def __init__(self, encoder: Encoder, found: Features) -> None:
        self.encoder, self.found = encoder, found
        codes = encode(encoder, found.documents)
        self.index = codes.T if isinstance(codes, np.ndarray) else scipy.sparse.csr_array(codes.T)

    def scores(self, split: str, rows: slice) -> Scores:
        """The scores of all documents for some queries of a split: (queries, documents)."""
        queries = self.found.queries[split].part(rows)
        return scores(encode(self.encoder, queries, queries=True), self.index)

    def facts(self) -> dict[str, Any]:
        """As `System` says."""
        count, dimensions = len(self.found.documents), self.encoder.projection.dimensions
        facts = {"dimensions": dimensions, "fields": self.encoder.weights.field.exp().tolist()}
        if isinstance(self.index, np.ndarray):
            return {"index_bytes": self.index.nbytes, "active_per_document": dimensions, **facts}
        queries = encode(self.encoder, self.found.queries["test"], queries=True)
        return {
            "index_bytes": posting_bytes(self.index.size, count, dimensions + 1),
            "active_per_document": self.index.size / count,
            "active_per_query": queries.size / len(self.found.queries["test"]),
            **facts,
        }


class Hybrid:
    """score = score of the encoder + λ · BM25, with λ chosen on the development part; both indices are kept."""

    def __init__(self, encoder: Encoder, found: Features) -> None:
        terms = len(found.vocabulary)
        weights = TermWeights(found.idf, encoder.weights.mean_lengths)
        plain = Encoder(weights, SparseProjection.identity(terms, 1), terms)
        self.parts = Embedded(encoder, found), Embedded(plain, found)
        whole = slice(0, len(found.relevant["development"]))
        first, second = (part.scores("development", whole) for part in self.parts)
        relevant = found.relevant["development"]
        self.blend = max(BLENDS, key=lambda blend: metrics(ranking(first + blend * second), relevant)["nDCG@10"])

    def scores(self, split: str, rows: slice) -> Scores:
        """The scores of all documents for some queries of a split: (queries, documents)."""
        first, second = (part.scores(split, rows) for part in self.parts)
        return first + self.blend * second

    def facts(self) -> dict[str, Any]:
        """As `System` says."""
        first, second = (part.facts() for part in self.parts)
        return first | {"index_bytes": first["index_bytes"] + second["index_bytes"], "blend": self.blend}
