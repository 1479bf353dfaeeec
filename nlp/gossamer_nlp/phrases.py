"""Words that follow each other as dimensions of their own: the context that single words lack.

score = Σ_words + λ · Σ_phrases, each phrase weighed as a word of BM25 is, as the sequential dependence model has it
(Metzler & Croft 2005). A phrase's dimension is one of 2¹⁸, by a hash of its two words, so that an index of any size
has no list of phrases; that two share one is rare, and does little harm where the words themselves count more.
"""

import numpy as np
from numpy.typing import NDArray

BUCKETS = 2**18
KEYS = np.arange(BUCKETS, dtype=np.uint64) + np.uint64(2**64 - BUCKETS)  # of the dimensions, beside words' keys


def buckets(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The dimension in [0, BUCKETS) of each phrase, by the keys of its words (N,); multiplicative hashing (Knuth)."""
    mixed = (first * np.uint64(0x9E3779B97F4A7C15) + second) * np.uint64(0xD6E8FEB86659FD93)
    return (mixed >> np.uint64(46)).astype(np.int64)


def followed(numbers: NDArray[np.int64], lengths: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The phrase that begins at each term of a stream (N,), −1 at a text's last term and beside unknown ones.

    numbers (N,): terms, −1 where unknown; lengths: how many terms each text has, in order; keys: of the terms.
    """
    found = np.full(len(numbers), -1, np.int64)
    ends = np.cumsum(lengths.ravel()) - 1
    inside = np.ones(len(numbers), bool)
    inside[ends[lengths.ravel() > 0]] = False
    starts = np.flatnonzero(inside)
    starts = starts[(numbers[starts] >= 0) & (numbers[starts + 1] >= 0)]
    found[starts] = buckets(keys[numbers[starts]], keys[numbers[starts + 1]])
    return found
