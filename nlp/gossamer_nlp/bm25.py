"""BM25 as bm25s has it, its tokeniser and parameters chosen on the development part."""

import itertools
from collections.abc import Sequence
from typing import Any

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN
from bm25s.tokenization import Tokenized
from numpy.typing import NDArray

from gossamer_nlp.data import Collection
from gossamer_nlp.evaluate import metrics, ranking

K1 = (1.2, 1.5, 2.0)
B = (0.75, 0.9, 1.0)


def tuned(collection: Collection) -> tuple[bm25s.BM25, dict[str, Any]]:
    """The index whose nDCG@10 on the development part is best (first the stop words, then k₁ and b); its settings."""
    queries, relevant = zip(*collection.queries["development"], strict=True)
    texts = {choice: numbered(collection, choice) for choice in (False, True)}

    def build(stopwords: bool, k1: float, b: float) -> bm25s.BM25:
        index = bm25s.BM25(method="lucene", k1=k1, b=b)
        index.index(texts[stopwords], show_progress=False)
        return index

    def value(settings: tuple[bool, float, float]) -> float:
        return metrics(ranking(scores(build(*settings), queries, settings[0])), relevant)["nDCG@10"]

    stopwords = max((False, True), key=lambda choice: value((choice, 1.5, 0.9)))
    settings = max(((stopwords, k1, b) for k1, b in itertools.product(K1, B)), key=value)
    return build(*settings), dict(zip(("stopwords", "k1", "b"), settings, strict=True))


def scores(index: bm25s.BM25, queries: Sequence[Sequence[str]], stopwords: bool) -> NDArray[np.float32]:
    """The scores of all documents: (queries, documents)."""
    return np.stack([index.get_scores(kept(query, stopwords)) for query in queries])


def numbered(collection: Collection, stopwords: bool) -> Tokenized:
    """The documents as bm25s takes them: a number for each term, and the terms' numbers."""
    vocabulary: dict[str, int] = {}
    texts = (kept([term for field in document for term in field], stopwords) for document in collection.documents)
    numbers = [[vocabulary.setdefault(term, len(vocabulary)) for term in text] for text in texts]
    return Tokenized(numbers, vocabulary)


def kept(terms: Sequence[str], stopwords: bool) -> list[str]:
    """The terms, or those that are no English stop words."""
    return [term for term in terms if term not in STOPWORDS_EN] if stopwords else list(terms)
