"""Which terms may stand for which: the neighbours of each term by sparse word embeddings of the collection itself."""

import numpy as np
from numpy.typing import NDArray

from gossamer_nlp.cooccurrence import factorised, numbered, ppmi, unit
from gossamer_nlp.features import Features
from gossamer_nlp.wordcodes import codes

WORDS = 20_000  # the most frequent terms, which have neighbours
LEAST = 3  # documents that hold a term whose neighbours mean something
WINDOW, DENSE, DIMENSIONS, ACTIVE = 5, 128, 1024, 16


def related(found: Features, count: int, seed: int) -> NDArray[np.int64]:
    """For each term the `count` terms most like it, by the cosine of their sparse embeddings (terms, count).

    A rare term has others in their place; their weights start at 0, and training alone makes them count.
    """
    terms = np.array(list(found.vocabulary))
    held = np.bincount(found.counts.indices, minlength=len(terms))
    order = np.argsort(-held, kind="stable")[:WORDS]
    order = order[held[order] >= LEAST]
    others = (np.arange(len(terms))[:, None] + 1 + np.arange(count)) % max(len(terms), 1)
    if len(order) <= max(count, DENSE):
        return others
    texts = (
        [term for field in document for term in found.analyzer.terms(field)] for document in found.collection.documents
    )
    matrix = ppmi(numbered(texts, terms[order].tolist(), WINDOW), len(order), WINDOW)
    sparse = unit(codes(factorised(matrix, DENSE, seed), DIMENSIONS, ACTIVE, seed=seed))
    for start in range(0, len(order), 1024):
        similarity = sparse[start : start + 1024] @ sparse.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1
        best = np.argpartition(-similarity, count, axis=1)[:, :count]
        others[order[start : start + 1024]] = order[best]
    return others
