"""Rankings and metrics by hand, and codes as the encoder computes them."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.nn import TopK
from gossamer_nlp.evaluate import encode, largest, metrics, posting_bytes, ranking, scores
from gossamer_nlp.train import Config, build, prepared


def test_ranking_breaks_ties_by_number():
    values = np.array([[0.0, 2.0, 2.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert ranking(values, 3).tolist() == [[3, 1, 2], [0, 1, 2]]
    assert ranking(values, 9).tolist() == [[3, 1, 2, 4, 0], [0, 1, 2, 3, 4]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 30))
def test_ranking_is_the_stable_sort(values: list[int], depth: int):
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:depth]
    assert ranking(np.array([values], float), depth).tolist() == [expected]


def test_metrics_by_hand():
    found = np.array([[4, 0, 2], [1, 3, 0], [3, 4, 0]])
    relevant = [{0: 1.0}, {1: 1.0, 0: 2.0, 9: 1.0}, {7: 1.0}]
    result = metrics(found, relevant)
    first = 1 / math.log2(3)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    second = (1 + 2 / math.log2(4)) / ideal
    assert result["nDCG@10"] == pytest.approx((first + second) / 3)
    assert result["MRR@10"] == pytest.approx((1 / 2 + 1) / 3)
    assert result["recall@100"] == pytest.approx((1 + 2 / 3) / 3)


def test_only_the_first_ten_count_for_ndcg():
    found = np.arange(100)[None]
    assert metrics(found, [{9: 1.0}])["nDCG@10"] == pytest.approx(1 / math.log2(11))
    late = metrics(found, [{10: 1.0}])
    assert (late["nDCG@10"], late["MRR@10"], late["recall@100"]) == (0, 0, 1)


def test_largest_is_topk():
    values = torch.randn(30, 40, generator=torch.Generator().manual_seed(0)) * (torch.arange(40) % 3 > 0)
    kept = largest(scipy.sparse.csr_array(values.numpy()), 6)
    assert kept.toarray().tolist() == TopK(6)(values).tolist()


@pytest.mark.parametrize("method", ["static-random", "rigl"])
def test_sparse_codes_give_the_scores_of_the_encoder(folder, method: str):
    _, found = prepared("beir", "summary", folder)
    encoder = build(Config(method=method, data="beir", data_dir=folder, sparsity=0.9, active=9), found)
    queries, documents = found.queries["test"], found.documents
    with torch.no_grad():
        encoder.weights.document.normal_(std=0.1, generator=torch.Generator().manual_seed(0))  # no ties
        expected = encoder(queries.batch(np.arange(40)), documents.batch(np.arange(120))).numpy()
    codes = encode(encoder, documents)
    assert isinstance(codes, scipy.sparse.csr_array)
    assert max(np.diff(codes.indptr)) <= 9
    index = scipy.sparse.csr_array(codes.T)
    assert scores(encode(encoder, queries, queries=True), index) == pytest.approx(expected, abs=1e-5)


def test_dense_codes_give_the_scores_of_the_encoder(folder):
    _, found = prepared("beir", "summary", folder)
    encoder = build(Config(data="beir", data_dir=folder, dimensions=7), found)
    with torch.no_grad():
        expected = encoder(found.queries["test"].batch(np.arange(40)), found.documents.batch(np.arange(120))).numpy()
    documents = encode(encoder, found.documents)
    assert documents.shape == (120, 7)
    assert scores(encode(encoder, found.queries["test"], queries=True), documents.T) == pytest.approx(
        expected, abs=1e-5
    )


def test_posting_bytes():
    assert posting_bytes(10, 65536, 5) == 10 * 6 + 20
    assert posting_bytes(10, 65537, 5) == 10 * 8 + 20
