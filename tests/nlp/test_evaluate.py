"""Rankings and metrics: by hand, and as trec_eval computes them."""

import math

import numpy as np
import pytest
import pytrec_eval
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.nn import TopK
from gossamer_nlp.evaluate import fused, interval, largest, mean, metrics, randomisation_test, ranking, search


def test_ranking_breaks_ties_by_number():
    values = np.array([[0.0, 2.0, 2.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert ranking(values, 3).tolist() == [[3, 1, 2], [0, 1, 2]]
    assert ranking(values, 9).tolist() == [[3, 1, 2, 4, 0], [0, 1, 2, 3, 4]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 30))
def test_ranking_is_the_stable_sort(values: list[int], depth: int):
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:depth]
    assert ranking(np.array([values], float), depth).tolist() == [expected]


def test_dense_and_sparse_codes_are_searched_alike():
    draw = np.random.default_rng(0)
    queries, documents = (np.round(draw.random((n, 8)) * (draw.random((n, 8)) < 0.4), 2) for n in (5, 30))
    sparse = search(scipy.sparse.csr_array(queries), scipy.sparse.csr_array(documents), 7)
    dense = search(queries, documents, 7)
    assert sparse[1] == pytest.approx(dense[1])
    assert dense[1] == pytest.approx(-np.sort(-(queries @ documents.T))[:, :7])


def test_metrics_by_hand():
    found = np.array([[4, 0, 2], [1, 3, 0], [3, 4, 0]])
    result = mean(metrics(found, [{0: 1.0}, {1: 1.0, 0: 2.0, 9: 1.0}, {7: 1.0}]))
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    second = (1 + 2 / math.log2(4)) / ideal
    assert result["nDCG@10"] == pytest.approx((1 / math.log2(3) + second) / 3)
    assert result["MRR@10"] == pytest.approx((1 / 2 + 1) / 3)
    assert result["recall@100"] == pytest.approx((1 + 2 / 3) / 3)
    assert result["MAP"] == pytest.approx((1 / 2 + (1 + 2 / 3) / 3) / 3)


def test_metrics_are_those_of_trec_eval():
    draw = np.random.default_rng(0)
    found = np.stack([draw.permutation(150)[:100] for _ in range(30)])
    relevant = [
        {int(d): float(draw.integers(0, 4)) for d in draw.permutation(150)[: draw.integers(1, 30)]} for _ in range(30)
    ]
    ours = metrics(found, relevant)
    judged = {str(q): {str(d): int(g) for d, g in own.items()} for q, own in enumerate(relevant)}
    run = {str(q): {str(d): 1.0 - i / 1000 for i, d in enumerate(row)} for q, row in enumerate(found.tolist())}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut_10", "map", "recall_100", "recip_rank"})
    theirs = evaluator.evaluate(run)
    for name, other in (("nDCG@10", "ndcg_cut_10"), ("MAP", "map"), ("recall@100", "recall_100")):
        assert ours[name] == pytest.approx([theirs[str(q)][other] for q in range(30)])
    reciprocal = np.array([theirs[str(q)]["recip_rank"] for q in range(30)])
    assert ours["MRR@10"] == pytest.approx(np.where(reciprocal >= 0.1, reciprocal, 0))


def test_ranks_are_fused():
    found = fused([np.array([[0, 1, 2]]), np.array([[2, 0, -1]])])
    assert found.tolist() == [[0, 2, 1]]
    assert fused([np.array([[0, 1]]), np.array([[1, 0]])], [1.0, 2.0]).tolist() == [[1, 0]]


def test_the_randomisation_test_tells_a_difference_from_none():
    draw = np.random.default_rng(0)
    first = draw.random(200)
    assert randomisation_test(first + 0.1, first) < 0.001
    assert randomisation_test(first, draw.permutation(first)) > 0.05
    assert randomisation_test(first, first) == 1


def test_an_interval_holds_the_mean():
    values = np.random.default_rng(0).random(400)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_largest_is_topk():
    values = torch.randn(30, 40, generator=torch.Generator().manual_seed(0)) * (torch.arange(40) % 3 > 0)
    kept = largest(scipy.sparse.csr_array(values.numpy()), 6)
    assert kept.toarray().tolist() == TopK(6)(values).tolist()
