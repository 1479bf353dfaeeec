"""What the kernels compute, in plain NumPy: every document is scored."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer_nlp.index.kernels import BLOCK

Whole = NDArray[np.int64]


def posting_documents(
    entry_pointers: Whole, blocks: NDArray[Any], counts: NDArray[Any], offsets: NDArray[Any]
) -> Whole:
    """The document of each posting (P,)."""
    return np.repeat(blocks.astype(np.int64), counts.astype(np.int64) + 1) * BLOCK + offsets


def best(
    weights: Whole, dimensions: Whole, pointers: Whole, documents: Whole, impacts: NDArray[np.uint8],
    gone: NDArray[np.uint8], base: Whole, k: int,
) -> tuple[Whole, Whole]:  # fmt: skip
    """The k documents with the largest scores above 0, best first, ties by number; and their scores."""
    scores = base.copy() if len(base) else np.zeros(len(gone), np.int64)
    for weight, dimension in zip(weights, dimensions, strict=True):
        own = slice(pointers[dimension], pointers[dimension + 1])
        np.add.at(scores, documents[own], weight * impacts[own].astype(np.int64))
    scores[gone > 0] = 0
    order = np.lexsort((np.arange(len(scores)), -scores))[:k]
    order = order[scores[order] > 0]
    return order, scores[order]


def cosines(query: NDArray[np.int16], scale: float, vectors: NDArray[np.int8], worth: NDArray[np.float32]) -> Whole:
    """rint(scale · worth · ⟨query, vector⟩) of each vector (N,), 0 where that is below."""
    return np.maximum(
        np.rint(vectors.astype(np.int64) @ query.astype(np.int64) * (scale * worth.astype(np.float64))), 0
    ).astype(np.int64)
