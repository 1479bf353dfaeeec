"""Documents expanded by the terms of those nearest to them."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.bm25 import idf, scaled
from gossamer_nlp.evaluate import largest
from gossamer_nlp.index import merging
from gossamer_nlp.index.segment import Segment, invert
from gossamer_nlp.index.state import best
from gossamer_nlp.phrases import KEYS

TERMS = 30  # of a document, the weightiest, by which others are found
BORROWED = 60  # terms of others that a document gets, at most


def expanded(
    documents: scipy.sparse.csr_array, rare: NDArray[np.float32], count: int, share: float
) -> scipy.sparse.csr_array:
    """d + share · Σ_n s_n n / Σ_n s_n over the `count` nearest documents n of each, of which the BORROWED largest stay.

    documents (N, terms); rare: the idf of the terms (Tao et al. 2006, "Language model information retrieval with
    document expansion"; Efron et al. 2012, who also ask for the nearest as a search does).
    """
    near = nearest(documents, rare, count)
    near.data *= share / np.repeat(np.maximum(near.sum(1), 1e-9), np.diff(near.indptr))
    return scipy.sparse.csr_array(documents + largest(scipy.sparse.csr_array(near @ documents), BORROWED))


def nearest(documents: scipy.sparse.csr_array, rare: NDArray[np.float32], count: int) -> scipy.sparse.csr_array:
    """The score of the `count` others that a search for each document's weightiest terms finds first (N, N)."""
    size, _ = cast(tuple[int, int], documents.shape)
    segment = Segment.of(documents)
    asked = largest(scaled(documents, rare), TERMS)
    pointers, columns, scores = [0], [], []
    for row in range(size):
        terms = asked.indices[asked.indptr[row] : asked.indptr[row + 1]]
        hits = best([segment], terms.astype(np.uint64), rare[terms].astype(float), count + 1) if len(terms) else []
        others = [(document, score) for _, document, score in hits if document != row][:count]
        columns += [document for document, _ in others]
        scores += [score for _, score in others]
        pointers.append(len(columns))
    return scipy.sparse.csr_array((np.array(scores, np.float32), columns, pointers), (size, size))


def widened(segments: Sequence[Segment], count: int, share: float, name: Callable[[], str]) -> Iterator[Segment]:
    """Segments of which nothing is deleted, anew, with their documents' words expanded; phrases stay as they are."""
    vectors, keys, _ = merging.together(segments)
    phrase = np.isin(keys, KEYS)
    words = np.flatnonzero(~phrase)
    own = vectors[:, words]
    own = expanded(own, idf(own), count, share)
    keys = np.concatenate([keys[words], keys[phrase]])
    vectors = scipy.sparse.csr_array(scipy.sparse.hstack([own, vectors[:, np.flatnonzero(phrase)]], format="csr"))
    first = 0
    for segment in segments:
        part = vectors[first : first + segment.count]
        first += segment.count
        yield Segment(name(), segment.count, invert(part, keys), segment.stored)
