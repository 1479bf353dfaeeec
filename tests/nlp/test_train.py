"""Configurations, encoders, batches and training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gossamer as gs
from gossamer_nlp.bags import Bags, Vocabulary, bags
from gossamer_nlp.bm25 import BM25, idf
from gossamer_nlp.config import LEXICAL, PROJECTED, Config
from gossamer_nlp.data import load
from gossamer_nlp.embeddings import Encoder, SparseProjection, TermWeights, draw
from gossamer_nlp.evaluate import search
from gossamer_nlp.features import Examples, Features, features
from gossamer_nlp.text import Analyzer
from gossamer_nlp.train import also_relevant, batches, build, encode, hard_answers, learned_from, train

DOCUMENTS = [("a b", "a c"), ("b", "d d d"), ("e f", "g h a")]
QUERIES = [("a d",), ("b b h",)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "term-weight"}, "'term-weight' .did you mean 'term-weights'"),
        ({"data": "docstring"}, "did you mean 'docstrings'"),
        ({"sparsity": 1.0}, r"sparsity is 1.0; it must be in \[0, 1\)"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"batch": 1}, "batch is 1; it must be at least 2"),
        ({"active": 0}, "active is 0"),
        ({"width": 30}, "width is 30; it must be a multiple of 4"),
        ({"distil": 1.5}, r"distil is 1.5; it must be in \[0, 1\]"),
        ({"layer_sparsity": 1.0}, "layer_sparsity is 1.0"),
        ({"method": "dense", "save": Path("x")}, "dense is there to compare with"),
    ],
)
def test_bad_values_are_refused(options, message: str):
    with pytest.raises(gs.InputError, match=message):
        Config(**options)


def toy() -> tuple[Bags, Bags, TermWeights]:
    words, plain = Vocabulary(), Analyzer("none")
    documents = bags(DOCUMENTS, plain, words, 2, grow=True)
    rare = torch.from_numpy(idf(documents.counts(len(words))))
    weights = TermWeights(rare, torch.from_numpy(documents.lengths.mean(0)), BM25(1.3, 0.7))
    return documents, bags(QUERIES, plain, words, 1), weights


def test_the_start_is_bm25():
    documents, queries, weights = toy()
    encoder = Encoder(weights, SparseProjection.identity(8), 8)
    scores = encoder(queries.batch(np.arange(2)), documents.batch(np.arange(3)))
    counts = documents.counts(8)
    expected = (queries.counts(8).multiply(idf(counts)[None]) @ BM25(1.3, 0.7).documents(counts).T).toarray()
    assert scores.detach().numpy() == pytest.approx(expected, abs=1e-5)


def test_a_field_that_weighs_more_counts_as_more_occurrences_and_more_length():
    documents, _, weights = toy()
    with torch.no_grad():
        weights.field.copy_(torch.tensor([2.0, 0.5]).log())
    own = weights.documents(documents.batch(np.array([0])))
    frequency = torch.tensor([2.5, 2.0, 0.5])  # a: 2 · 1 + 0.5 · 1; b: 2; c: 0.5
    length = (2 * 2 + 0.5 * 2) / (2 * 5 / 3 + 0.5 * 8 / 3)
    expected = frequency / (frequency + 1.3 * (0.3 + 0.7 * length))
    assert own.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_related_terms_are_added_to_documents_alone():
    documents, queries, weights = toy()
    others = torch.tensor([[7]] * 8)
    related = Encoder(weights, SparseProjection.related(8, others, torch.full((8, 1), 0.5)), 8)
    plain = Encoder(weights, SparseProjection.identity(8), 8)
    assert (encode(related, queries, queries=True) != encode(plain, queries, queries=True)).nnz == 0
    added = encode(related, documents).toarray() - encode(plain, documents).toarray()
    assert added[:, 7] == pytest.approx(0.5 * encode(plain, documents).sum(1))
    with torch.no_grad():
        scores = related(queries.batch(np.arange(2)), documents.batch(np.arange(3))).numpy()
    product = encode(related, queries, queries=True) @ encode(related, documents).T
    assert product.toarray() == pytest.approx(scores, abs=1e-5)


def test_draws_are_distinct_and_more_than_there_are_is_refused():
    found = draw(200, 5, 4, torch.Generator().manual_seed(0))
    assert all(len(set(row)) == 4 for row in found.tolist())
    with pytest.raises(gs.InputError, match="4 dimensions"):
        draw(3, 4, 5, torch.Generator())


@pytest.fixture
def config(folder: Path) -> Config:
    return Config(data="beir", data_dir=folder, pairs="judged", epochs=3, batch=16, sparsity=0.95)


@pytest.fixture
def found(config: Config) -> Features:
    return features(load(config.data, config.queries, config.data_dir))


def test_each_method_has_its_encoder(config: Config, found: Features):
    shapes = {}
    for method in (*LEXICAL, *PROJECTED):
        projection = build(replace(config, method=method), found).projection
        sparse = isinstance(projection, SparseProjection)
        shapes[method] = (sparse, (projection.values if sparse else projection.vectors).shape[1])
    assert shapes == {
        "bm25": (True, 1),
        "term-weights": (True, 1),
        "expanded": (True, 1),
        "related": (True, 9),
        "dense": (False, 128),
        "small-dense": (False, 3),
        "random": (True, 3),
        "static-random": (True, 3),
    }


@pytest.mark.parametrize("method", ["static-random", "dense", "term-weights"])
def test_codes_give_the_scores_of_the_encoder(config: Config, found: Features, method: str):
    encoder = build(replace(config, method=method, active=9), found)
    queries, documents = found.queries["test"], found.documents
    with torch.no_grad():
        encoder.weights.document.normal_(std=0.1, generator=torch.Generator().manual_seed(0))  # no ties
        expected = encoder(queries.batch(np.arange(40)), documents.batch(np.arange(120))).numpy()
    codes = encode(encoder, queries, queries=True) @ encode(encoder, documents).T
    assert (codes if method == "dense" else codes.toarray()) == pytest.approx(expected, abs=1e-4)


def test_batches_hold_every_pair_once_an_epoch_and_a_hard_answer(config: Config):
    hard = np.arange(100).reshape(50, 2)
    first = batches(hard, config, 0)
    assert [len(batch) for batch, _ in first] == [16] * 3
    assert len({number for batch, _ in first for number in batch.tolist()}) == 48
    assert all(wrong // 2 == number for batch, others in first for number, wrong in zip(batch, others, strict=True))
    assert [b.tolist() for b, _ in first] == [b.tolist() for b, _ in batches(hard, config, 0)]
    assert [b.tolist() for b, _ in first] != [b.tolist() for b, _ in batches(hard, config, 1)]


def test_hard_answers_are_bm25s_best_but_the_right_one(config: Config, found: Features):
    own = learned_from(config, found)
    hard = hard_answers(own, found)
    best, _ = search(found.lexical(own.queries), found.start.documents(found.counts), 5)
    for row, number in enumerate(own.numbers):
        expected = [document for document in best[row] if document != number]
        assert set(expected[:2]) <= set(hard[row].tolist())
    assert (hard != own.numbers[:, None]).mean() > 0.99


def test_a_document_relevant_to_another_query_of_the_batch_is_no_wrong_answer(found: Features):
    nothing = found.documents
    own = Examples(nothing, nothing, np.array([4, 5, 4, 6]))
    mask = also_relevant(own, np.array([0, 1, 2]), np.array([5, 9, 4]))
    assert mask.int().tolist() == [[0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize("method", ["dense", "static-random", "term-weights", "related"])
def test_training_is_no_worse_than_its_start_and_repeats(config: Config, found: Features, method: str):
    config = replace(config, method=method)
    lines: list[str] = []
    first, _ = train(config, found, lines.append)
    again, _ = train(config, found)
    for own, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert own.equal(other)
    assert len(lines) == 3


def test_what_is_not_trained_stays_as_it_was(config: Config, found: Features):
    encoder, seconds = train(replace(config, method="random"), found)
    assert seconds == 0
    assert encoder.weights.document.any().item() is False


def test_label_free_training_leaves_the_shape_of_bm25(config: Config, found: Features):
    documents = tuple((" ".join(text.split()[:4]), text) for _, text in found.collection.documents)
    titled = features(replace(found.collection, documents=documents))
    encoder, _ = train(replace(config, pairs="label-free"), titled)
    assert float(encoder.weights.log_k1.exp()) == pytest.approx(titled.start.k1)
    assert encoder.weights.field.any().item() is False


def test_a_training_goes_on_from_its_checkpoint(config: Config, found: Features, tmp_path: Path):
    path = tmp_path / "run.checkpoint"
    whole, _ = train(config, found)
    train(replace(config, checkpoint=path, epochs=3), found)
    lines: list[str] = []
    again, _ = train(replace(config, checkpoint=path), found, lines.append)
    assert lines == []  # nothing was left to do
    for own, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert own.equal(other)
    with pytest.raises(gs.InputError, match="batch"):
        train(replace(config, checkpoint=path, batch=8), found)
