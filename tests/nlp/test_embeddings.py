"""The embeddings: BM25 at the start, dense and sparse projections, and the topology that moves."""

import bm25s
import numpy as np
import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer_nlp.embeddings import DenseProjection, Encoder, SparseProjection, TermWeights, draw
from gossamer_nlp.features import Bags, bags

VOCABULARY = {letter: i for i, letter in enumerate("abcdefgh")}
DOCUMENTS = [(("a", "b"), ("a", "c")), (("b",), ("d", "d", "d")), (("e", "f"), ("g", "h", "a"))]
QUERIES = [(("a", "d"),), (("b", "b", "h"),)]


def weights(documents: Bags, **options: float) -> TermWeights:
    held = [sum(letter in own for own in map(set, (sum(d, ()) for d in DOCUMENTS))) for letter in VOCABULARY]
    n = torch.tensor(held)
    return TermWeights(torch.log1p((3 - n + 0.5) / (n + 0.5)), torch.from_numpy(documents.lengths.mean(0)), **options)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_start_is_bm25():
    documents, queries = bags(DOCUMENTS, VOCABULARY), bags(QUERIES, VOCABULARY)
    encoder = Encoder(weights(documents, k1=1.3, b=0.7), SparseProjection.identity(8, 1), 8)
    scores = encoder(queries.batch(np.arange(2)), documents.batch(np.arange(3)))
    index = bm25s.BM25(method="lucene", k1=1.3, b=0.7)
    index.index([list(sum(document, ())) for document in DOCUMENTS], show_progress=False)
    expected = np.stack([index.get_scores(list(query[0])) for query in QUERIES])
    assert scores.detach().numpy() == pytest.approx(expected, abs=1e-5)


def test_a_field_that_weighs_more_counts_as_more_occurrences_and_more_length():
    documents = bags(DOCUMENTS, VOCABULARY)
    found = weights(documents, k1=1.0, b=0.5)
    with torch.no_grad():
        found.field.copy_(torch.tensor([2.0, 0.5]).log())
    own = found.documents(documents.batch(np.array([0])))
    frequency = torch.tensor([2.5, 2.0, 0.5])  # a: 2 · 1 + 0.5 · 1; b: 2; c: 0.5
    length = (2 * 2 + 0.5 * 2) / (2 * 5 / 3 + 0.5 * 8 / 3)
    expected = frequency / (frequency + 0.5 + 0.5 * length) * found.idf[:3].sqrt()
    assert own.tolist() == pytest.approx(expected.tolist())


def dense_matrix(projection: SparseProjection) -> Tensor:
    return torch.from_numpy(projection.matrix().toarray())


def test_the_sparse_projection_is_its_matrix_product():
    projection = SparseProjection.random(8, 50, 3, generator())
    batch = bags(QUERIES, VOCABULARY).batch(np.arange(2))
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    inputs = torch.zeros(2, 8).index_put((batch.rows, batch.terms), values)
    codes = projection(values, batch.terms, batch.rows, 2)
    full = inputs @ dense_matrix(projection)
    used = full.any(0)
    assert codes.detach().tolist() == full[:, used].tolist()
    assert projection.sparsity == 1 - 3 / 50
    assert (dense_matrix(projection) != 0).sum(1).tolist() == [3] * 8
    assert dense_matrix(projection).norm(dim=1).tolist() == pytest.approx([1.0] * 8)


def test_the_identity_starts_with_one_dimension_per_term():
    projection = SparseProjection.identity(6, 3, generator())
    assert dense_matrix(projection).equal(torch.eye(6))
    assert all(len(set(row)) == 3 for row in projection.places.tolist())


def test_the_dense_projection_is_its_matrix_product_also_for_empty_texts():
    projection = DenseProjection(8, 5, generator())
    rows, terms, values = torch.tensor([0, 0, 2]), torch.tensor([1, 3, 1]), torch.tensor([2.0, 1.0, -1.0])
    codes = projection(values, terms, rows, 3)
    vectors = projection.vectors
    assert codes.allclose(torch.stack([2 * vectors[1] + vectors[3], torch.zeros(5), -vectors[1]]))


def test_moving_drops_the_smallest_and_grows_the_largest_dense_gradient():
    projection = SparseProjection(
        torch.tensor([[0, 1], [2, 3], [4, 5]]), torch.tensor([[1.0, 0.1], [0.2, 2.0], [3.0, 3.0]]), 6
    )
    terms, rows, values = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]), torch.tensor([1.0, 2.0, 1.0])
    matrix = dense_matrix(projection).requires_grad_()
    slope = torch.tensor([[0.1, 9.0, 0.3, 0.4, 5.0, 0.6], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    inputs = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    ((inputs @ matrix) * slope).sum().backward()
    (projection(values, terms, rows, 2) * slope).sum().backward()
    moved, columns = projection.move(2 / 3)
    assert dict(zip(moved.tolist(), columns.tolist(), strict=True)) == {0: 1, 1: 0}
    # Term 0 drops dimension 1, whose gradient is the largest but belongs to it, and grows 4; term 1 grows 1.
    assert projection.places.tolist() == [[0, 4], [1, 3], [4, 5]]
    assert matrix.grad is not None
    assert matrix.grad[0].abs().masked_fill(torch.tensor([1, 1, 0, 0, 0, 0]).bool(), -1).argmax() == 4
    assert projection.values.tolist() == [[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]


def test_moving_needs_a_backward_pass():
    with pytest.raises(gs.InputError, match="backward"):
        SparseProjection.identity(4, 2, generator()).move(0.5)


def test_drawn_places_are_distinct_and_more_than_there_are_is_refused():
    found = draw(200, 5, 4, generator())
    assert all(len(set(row)) == 4 for row in found.tolist())
    assert set(found.flatten().tolist()) == set(range(5))
    with pytest.raises(gs.InputError, match="4 dimensions"):
        draw(3, 4, 5, generator())
