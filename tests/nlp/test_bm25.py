"""BM25: as bm25s computes it, and its settings chosen."""

import bm25s
import numpy as np
import pytest
import scipy.sparse

from gossamer_nlp.bags import Vocabulary, bags
from gossamer_nlp.bm25 import BM25, idf, tuned
from gossamer_nlp.text import Analyzer

DOCUMENTS = ["a b a c", "b d d d", "e f g h a"]
QUERIES = ["a d", "b b h"]


def test_the_scores_are_those_of_bm25s():
    words, plain = Vocabulary(), Analyzer("none")
    counts = bags([(text,) for text in DOCUMENTS], plain, words, 1, grow=True).counts(len(words))
    asked = bags([(text,) for text in QUERIES], plain, words, 1).counts(len(words))
    scores = (asked.multiply(idf(counts)[None]) @ BM25(1.3, 0.7).documents(counts).T).toarray()
    index = bm25s.BM25(method="lucene", k1=1.3, b=0.7)
    index.index([text.split() for text in DOCUMENTS], show_progress=False)
    expected = np.stack([index.get_scores(text.split()) for text in QUERIES])
    assert scores == pytest.approx(expected, abs=1e-5)


def test_the_settings_are_those_that_find_the_documents():
    """Long documents hold the word by chance: only with much normalisation of lengths does the short one win."""
    counts = scipy.sparse.csr_array(np.array([[1, 2, 0]] + [[2, 10, i] for i in range(1, 12)], np.float32))
    queries = scipy.sparse.csr_array(np.array([[1, 0, 0]], np.float32))
    best, value = tuned(counts, queries, [{0: 1.0}])
    assert value == 1
    assert best.b > 0.3
