"""Which words occur near which: counts, positive pointwise mutual information, and dense embeddings of it."""

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


def numbered(texts: Iterable[Sequence[str]], words: Sequence[str], window: int) -> NDArray[np.int32]:
    """The words' numbers in the order of the texts, −1 for others; no window reaches from one text into the next."""
    number = {word: i for i, word in enumerate(words)}
    gap = [-1] * window
    stream: list[int] = []
    for text in texts:
        stream += [number.get(term, -1) for term in text]
        stream += gap
    return np.array(stream, np.int32)


def ppmi(stream: NDArray[np.int32], words: int, window: int) -> scipy.sparse.csr_array:
    """max(0, log P(w, c) / (P(w) P(c)^¾)), over words at most `window` apart (words, words); others take room.

    Contexts are smoothed as Levy et al. (2015) advise: P(c)^¾ is normalised to sum to 1.
    """
    counts = scipy.sparse.csr_array((words, words))
    for distance in range(1, window + 1):
        left, right = stream[:-distance], stream[distance:]
        both = (left >= 0) & (right >= 0)
        pairs = scipy.sparse.coo_array((np.ones(both.sum()), (left[both], right[both])), shape=counts.shape)
        counts = counts + pairs + pairs.T
    counts = scipy.sparse.coo_array(counts)
    rows, columns = counts.coords
    own = np.bincount(rows, counts.data, words)
    smoothed = own**0.75 / max((own**0.75).sum(), 1e-300)
    information = np.log(counts.data / (own[rows] * smoothed[columns]))
    found = scipy.sparse.csr_array((np.maximum(information, 0), (rows, columns)), shape=counts.shape)
    found.eliminate_zeros()
    return found


def factorised(matrix: scipy.sparse.csr_array, dimensions: int, seed: int = 0) -> Matrix:
    """U √S of the truncated singular value decomposition, rows of unit length (words, dimensions)."""
    from sklearn.utils.extmath import randomized_svd

    dimensions = min(dimensions, min(cast(tuple[int, int], matrix.shape)) - 1)
    left, values, _ = randomized_svd(matrix.astype(np.float32), n_components=dimensions, random_state=seed)
    return unit(left * np.sqrt(values))


def unit(vectors: NDArray[np.floating]) -> Matrix:
    """Rows of unit length; a row of zeros stays."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)
