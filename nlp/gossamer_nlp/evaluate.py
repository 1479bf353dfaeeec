"""How well documents are found: rankings, and what they are worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from gossamer.nn import TopK
from gossamer_nlp.embeddings import DenseProjection, Encoder
from gossamer_nlp.features import Bags

Codes = NDArray[np.float32] | scipy.sparse.csr_array
Scores = NDArray[np.floating[Any]]
DEPTH = 100


def ranking(scores: Scores, depth: int = DEPTH) -> NDArray[np.int64]:
    """The documents of the `depth` largest scores of each row, best first; of equal scores the lower number first.

    Shapes: (queries, documents) → (queries, min(depth, documents)).
    """
    depth = min(depth, scores.shape[1])
    least = np.partition(scores, -depth, axis=1)[:, -depth]
    found = np.empty((len(scores), depth), np.int64)
    for row, (own, bound) in enumerate(zip(scores, least, strict=True)):
        candidates = np.flatnonzero(own >= bound)
        found[row] = candidates[np.argsort(-own[candidates], kind="stable")[:depth]]
    return found


def metrics(found: NDArray[np.int64], relevant: Sequence[dict[int, float]]) -> dict[str, float]:
    """nDCG@10, MRR@10 and recall@100 of rankings (queries, depth) by graded judgements, each the mean over the queries.

    nDCG@10 = DCG / ideal DCG, with DCG = Σ_i gain_i / log₂(i + 1) over the first ten (Järvelin & Kekäläinen 2002).
    """
    gains = np.array([[own.get(d, 0.0) for d in row] for row, own in zip(found.tolist(), relevant, strict=True)])
    discounts = 1 / np.log2(np.arange(2, 12))
    ideal = np.array(
        [sum(g * d for g, d in zip(sorted(own.values(), reverse=True), discounts, strict=False)) for own in relevant]
    )
    first = gains[:, :10]
    hits = first > 0
    reciprocal = np.where(hits.any(1), 1 / (1 + hits.argmax(1)), 0.0)
    return {
        "nDCG@10": float(np.mean(first @ discounts[: first.shape[1]] / ideal)),
        "MRR@10": float(np.mean(reciprocal)),
        "recall@100": float(np.mean((gains[:, :100] > 0).sum(1) / [len(own) for own in relevant])),
    }


@torch.no_grad()
def encode(encoder: Encoder, bags: Bags, queries: bool = False) -> Codes:
    """The codes of all texts, a CSR array where they are sparse."""
    batch = bags.batch(np.arange(len(bags)))
    weights = encoder.weights.queries(batch) if queries else encoder.weights.documents(batch)
    if isinstance(encoder.projection, DenseProjection):
        return encoder.projection(weights, batch.terms, batch.rows, len(bags)).numpy()
    shape = len(bags), len(encoder.weights.idf)
    weighted = scipy.sparse.csr_array((weights.numpy(), bags.terms, bags.pointers), shape=shape)
    assert isinstance(encoder.activation, TopK)
    return largest(weighted @ encoder.projection.matrix(), encoder.activation.k)


def largest(codes: scipy.sparse.csr_array, k: int) -> scipy.sparse.csr_array:
    """The k largest positive numbers of each row, as `TopK(k)` keeps them."""
    codes.sort_indices()
    size = len(codes.indptr) - 1
    rows = np.repeat(np.arange(size), np.diff(codes.indptr))
    order = np.lexsort((np.negative(codes.data), rows))
    rank = np.arange(len(rows)) - np.asarray(codes.indptr)[rows]
    kept = np.sort(order[(rank < k) & (codes.data[order] > 0)])
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=size))])
    return scipy.sparse.csr_array((codes.data[kept], codes.indices[kept], pointers), shape=codes.shape)


def scores(queries: Codes, documents: Codes) -> Scores:
    """The dot products (queries, documents) of queries (queries, dimensions) and documents (dimensions, documents).

    Sparse documents are an inverted index: row d lists the documents in which dimension d is active.
    """
    product = queries @ documents
    return product if isinstance(product, np.ndarray) else product.toarray()


def posting_bytes(postings: int, documents: int, lists: int) -> int:
    """The bytes of an inverted index: a posting has 4 for its number and 2 (or 4) for its document, a list 4."""
    return postings * (4 + (2 if documents <= 2**16 else 4)) + 4 * lists
