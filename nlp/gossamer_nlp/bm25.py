"""BM25 over stemmed terms, its k₁ and b chosen on development queries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from gossamer_nlp.evaluate import Judgements, evaluate, mean

K1 = (0.6, 0.9, 1.2, 1.6, 2.0, 3.0)
B = (0.3, 0.5, 0.75, 0.9, 1.0)
TUNED_ON = 1000  # development queries that are enough to choose two numbers by


@dataclass(frozen=True)
class BM25:
    """score(q, d) = Σ_t tf_q · idf_t · tf_d / (tf_d + k₁ (1 − b + b · l_d / l̄)), as Lucene has it.

    (Robertson & Zaragoza 2009; the constant factor k₁ + 1 is left out.)
    """

    k1: float = 1.2
    b: float = 0.75

    def documents(self, counts: scipy.sparse.csr_array, mean_length: float | None = None) -> scipy.sparse.csr_array:
        """The saturated frequencies (documents, terms) of term counts; without a mean length, that of these."""
        lengths = np.asarray(counts.sum(1), np.float32)
        lengths /= mean_length or max(float(lengths.mean()), 1.0)
        norm = self.k1 * (1 - self.b + self.b * lengths)
        data = counts.data / (counts.data + np.repeat(norm, np.diff(counts.indptr)))
        return scipy.sparse.csr_array((data.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)


def idf(counts: scipy.sparse.csr_array) -> NDArray[np.float32]:
    """ln(1 + (N − n + ½) / (n + ½)) of each term that n of N documents hold (Robertson & Spärck Jones 1976; Lucene)."""
    documents, terms = cast(tuple[int, int], counts.shape)
    return rarity(np.bincount(counts.indices, minlength=terms), documents)


def scaled(counts: scipy.sparse.csr_array, weights: NDArray[np.float32]) -> scipy.sparse.csr_array:
    """Each column times its weight."""
    return scipy.sparse.csr_array((counts.data * weights[counts.indices], counts.indices, counts.indptr), counts.shape)


def rarity(held: NDArray[np.int64], documents: int) -> NDArray[np.float32]:
    """The idf of terms that `held` of `documents` hold."""
    return np.log1p((documents - held + 0.5) / (held + 0.5)).astype(np.float32)


def tuned(
    counts: scipy.sparse.csr_array, queries: scipy.sparse.csr_array, relevant: Sequence[Judgements]
) -> tuple[BM25, float]:
    """The k₁ and b with the best nDCG@10 for these queries, weighed by tf · idf, and that value; no index is built.

    First b, then k₁, then b again; only the columns of terms that stand in a query are scored, and at most `TUNED_ON`
    queries count.
    """
    if len(relevant) > TUNED_ON:
        chosen = np.linspace(0, len(relevant) - 1, TUNED_ON).astype(int)
        queries, relevant = queries[chosen], [relevant[i] for i in chosen]
    asked = np.unique(queries.indices)
    weighted = scipy.sparse.csr_array(queries[:, asked])
    values: dict[BM25, float] = {}

    def value(start: BM25) -> float:
        if start not in values:
            values[start] = mean(evaluate(weighted, start.documents(counts)[:, asked], relevant))["nDCG@10"]
        return values[start]

    best = BM25()
    for _ in range(2):
        best = max((replace(best, b=b) for b in B), key=value)
        best = max((replace(best, k1=k1) for k1 in K1), key=value)
    return best, value(best)
