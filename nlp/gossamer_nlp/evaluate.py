"""How well documents are found: rankings, what they are worth, and whether two systems differ."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Codes = NDArray[np.float32] | scipy.sparse.csr_array
Scores = NDArray[np.floating[Any]]
Judgements = Mapping[int, float]  # the relevance of documents by their number
DEPTH = 100
BLOCK = 2**24  # scores that are held at a time


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


def search(queries: Codes, documents: Codes, depth: int = DEPTH) -> tuple[NDArray[np.int64], Scores]:
    """The best documents of each query by the dot product of their codes, and their scores; both (queries, depth).

    queries (queries, dimensions) and documents (documents, dimensions) are dense or sparse, some queries at a time.
    """
    index = documents.T if isinstance(documents, np.ndarray) else scipy.sparse.csr_array(documents.T)
    count, size = (cast(tuple[int, int], codes.shape)[0] for codes in (queries, documents))
    step = max(1, BLOCK // max(1, size))
    found, values = [], []
    for start in range(0, count, step):
        product = queries[start : start + step] @ index
        scores = product if isinstance(product, np.ndarray) else product.toarray()
        found.append(ranking(scores, depth))
        values.append(np.take_along_axis(scores, found[-1], 1))
    return np.concatenate(found), np.concatenate(values)


def evaluate(queries: Codes, documents: Codes, relevant: Sequence[Judgements]) -> dict[str, NDArray[np.float64]]:
    """The metrics of each query, by the dot products of codes."""
    return metrics(search(queries, documents)[0], relevant)


def metrics(found: NDArray[np.int64], relevant: Sequence[Judgements]) -> dict[str, NDArray[np.float64]]:
    """nDCG@10, MRR@10, MAP and recall@100 of each ranking (queries, depth) by graded judgements; −1 is no document.

    nDCG@10 = DCG / ideal DCG, with DCG = Σ_i gain_i / log₂(i + 1) over the first ten (Järvelin & Kekäläinen 2002), as
    trec_eval computes it; MAP over the ranking's depth. A query without relevant documents scores 0.
    """
    gains = np.array([[own.get(d, 0.0) for d in row] for row, own in zip(found.tolist(), relevant, strict=True)])
    gains = np.maximum(gains.reshape(len(relevant), -1), 0)
    discounts = 1 / np.log2(np.arange(2, 12))
    positive = [sorted((g for g in own.values() if g > 0), reverse=True) for own in relevant]
    ideal = np.array([sum(g * d for g, d in zip(own, discounts, strict=False)) for own in positive])
    count = np.array([len(own) for own in positive])
    hits = gains > 0
    first = hits[:, :10]
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found_values = {
            "nDCG@10": gains[:, :10] @ discounts[: first.shape[1]] / ideal,
            "MRR@10": np.where(first.any(1), 1 / (1 + first.argmax(1)), 0.0),
            "MAP": (precision * hits).sum(1) / count,
            "recall@100": hits[:, :100].sum(1) / count,
        }
    return {name: np.nan_to_num(own) for name, own in found_values.items()}


def mean(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """The mean of each metric over the queries."""
    return {name: float(own.mean()) for name, own in values.items()}


def fused(rankings: Sequence[NDArray[np.int64]], weights: Sequence[float] | None = None, k: int = 60) -> NDArray[Any]:
    """Reciprocal-rank fusion: Σ_s weight_s / (k + rank_s(d)) (Cormack et al. 2009), best first, ties by number.

    Rankings are (queries, depth); so is what comes back, −1 where the rankings hold fewer documents.
    """
    weights = weights or [1.0] * len(rankings)
    depth = max(ranking.shape[1] for ranking in rankings)
    found = np.full((len(rankings[0]), depth), -1, np.int64)
    for row in range(len(found)):
        scores: dict[int, float] = {}
        for ranking, weight in zip(rankings, weights, strict=True):
            for rank, document in enumerate(ranking[row].tolist(), 1):
                if document >= 0:
                    scores[document] = scores.get(document, 0.0) + weight / (k + rank)
        best = sorted(scores, key=lambda d: (-scores[d], d))[:depth]
        found[row, : len(best)] = best
    return found


def randomisation_test(
    first: NDArray[np.float64], second: NDArray[np.float64], rounds: int = 10_000, seed: int = 0
) -> float:
    """The p-value of a difference of means as large as that of paired values (Fisher's; Smucker et al. 2007).

    p = (1 + #{rounds: |mean of differences with random signs| ≥ |mean of differences|}) / (1 + rounds).
    """
    differences = first - second
    generator = np.random.default_rng(seed)
    signs = generator.integers(0, 2, (rounds, len(differences)), dtype=np.int8) * 2 - 1
    extreme = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12
    return float((1 + extreme.sum()) / (1 + rounds))


def interval(
    values: NDArray[np.float64], level: float = 0.95, rounds: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap percentile interval of a mean over queries (Efron & Tibshirani 1993)."""
    generator = np.random.default_rng(seed)
    means = values[generator.integers(0, len(values), (rounds, len(values)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def largest(codes: scipy.sparse.csr_array, k: int) -> scipy.sparse.csr_array:
    """The k largest positive numbers of each row; of equal ones those of the lower columns."""
    codes.sort_indices()
    size, _ = cast(tuple[int, int], codes.shape)
    counts = np.diff(codes.indptr)
    if counts.max(initial=0) <= k and (codes.data > 0).all():
        return codes
    rows = np.repeat(np.arange(size), counts)
    order = np.lexsort((np.negative(codes.data), rows))
    rank = np.arange(len(rows)) - np.asarray(codes.indptr)[rows]
    kept = np.sort(order[(rank < k) & (codes.data[order] > 0)])
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=size))])
    return scipy.sparse.csr_array((codes.data[kept], codes.indices[kept], pointers), shape=codes.shape)
