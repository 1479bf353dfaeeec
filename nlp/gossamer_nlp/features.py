"""A collection as numbers: its vocabulary, documents, judged queries, and the pairs that a model learns from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.bags import Bags, Vocabulary, bags
from gossamer_nlp.bm25 import BM25, idf, scaled, tuned
from gossamer_nlp.data import SPLITS, Collection, Pair
from gossamer_nlp.evaluate import Judgements
from gossamer_nlp.text import Analyzer

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """A collection as numbers: the vocabulary is that of its documents; `start` is BM25, tuned where it can be."""

    collection: Collection
    analyzer: Analyzer
    vocabulary: Vocabulary
    documents: Bags
    counts: scipy.sparse.csr_array
    idf: NDArray[np.float32]
    queries: dict[str, Bags]
    relevant: dict[str, list[Judgements]]
    start: BM25

    def lexical(self, queries: Bags) -> scipy.sparse.csr_array:
        """Queries as BM25 weighs their terms: tf · idf (queries, terms)."""
        return scaled(queries.counts(len(self.vocabulary)), self.idf)


@dataclass(frozen=True)
class Examples:
    """Pairs, and as numbers: queries, the documents that answer them, these documents' numbers in the collection."""

    queries: Bags
    documents: Bags
    numbers: Whole
    pairs: Sequence[Pair] = ()


def features(collection: Collection, language: str = "english") -> Features:
    """The features of a collection; BM25's k₁ and b are chosen on its development queries where those are judged.

    Queries made of documents' own beginnings want an answer that is short and about one thing: chosen by them, b comes
    out too large, and k₁ too small, for queries that have many answers. Without judgements both stay as Robertson had
    them.
    """
    analyzer, vocabulary = Analyzer(language), Vocabulary()
    documents = bags(collection.documents, analyzer, vocabulary, len(collection.fields), grow=True, phrases=True)
    counts = documents.counts(len(vocabulary))
    queries = {
        split: bags([(query.text,) for query in collection.queries[split]], analyzer, vocabulary, 1, phrases=True)
        for split in SPLITS
    }
    relevant: dict[str, list[Judgements]] = {
        split: [query.relevant for query in collection.queries[split]] for split in SPLITS
    }
    found = Features(collection, analyzer, vocabulary, documents, counts, idf(counts), queries, relevant, BM25())
    if not relevant["development"] or "development" in collection.pseudo:
        return found
    start, _ = tuned(counts, found.lexical(queries["development"]), relevant["development"])
    return Features(collection, analyzer, vocabulary, documents, counts, found.idf, queries, relevant, start)


def examples(pairs: Sequence[Pair], found: Features, most: int, seed: int) -> Examples:
    """Pairs whose query and document hold known terms, `most` of them, drawn by the seed."""
    if len(pairs) > most:
        chosen = np.random.default_rng(seed).choice(len(pairs), most, replace=False)
        pairs = [pairs[i] for i in np.sort(chosen)]
    queries = bags([(pair.query,) for pair in pairs], found.analyzer, found.vocabulary, 1)
    held = np.flatnonzero(np.diff(queries.pointers))
    kept = [pairs[i] for i in held.tolist()]
    fields = len(found.collection.fields)
    return Examples(
        bags([(pair.query,) for pair in kept], found.analyzer, found.vocabulary, 1),
        bags([pair.document for pair in kept], found.analyzer, found.vocabulary, fields),
        np.array([pair.number for pair in kept], np.int64),
        kept,
    )
