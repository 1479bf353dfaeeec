"""Lexical models: vectors of documents and queries, kept in a file that is checked."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

import gossamer as gs
import gossamer_nlp
from gossamer_nlp.bm25 import BM25
from gossamer_nlp.model import Lexical, load
from gossamer_nlp.text import Analyzer

TEXTS = ["the cat sat", "the dog sat down", "a bird"]


def learned() -> Lexical:
    relations = scipy.sparse.csr_array(np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.8]], np.float32))
    weights = np.array([1.0, 2.0, 0.5], np.float32)
    return Lexical(
        Analyzer("none"), BM25(1.0, 0.5), ("text",), np.ones(1, np.float32), ("cat", "dog", "bird"), weights,
        weights[::-1].copy(), relations, 4, 0.0, 3, 0.7, {"note": "é"},
    )  # fmt: skip


def test_the_scores_of_a_plain_model_are_bm25():
    model = Lexical(Analyzer("none"), BM25(1.2, 0.75), phrases=0.0).fit(TEXTS)
    scores = (model.encode_query(["cat sat", ""]) @ model.encode_document(TEXTS).T).toarray()
    length, rare = 3 / 3, np.log1p([2.5 / 1.5, 1.5 / 2.5])
    expected = (rare / (1 + 1.2 * (0.25 + 0.75 * length))).sum()
    assert scores[0, 0] == pytest.approx(expected)
    assert scores[0, 2] == 0
    assert scores[1].tolist() == [0, 0, 0]
    assert (model.fit_transform(TEXTS) != model.transform(TEXTS)).nnz == 0


def test_a_phrase_counts_beside_its_words():
    plain, own = (Lexical(Analyzer("none"), phrases=phrases).fit(TEXTS) for phrases in (0.0, 0.5))
    queries = ["dog sat down", "sat dog", "bird dog"]
    words, both = ((m.encode_query(queries) @ m.encode_document(TEXTS).T).toarray() for m in (plain, own))
    length = 4 / 3
    rare = np.log1p(2.5 / 1.5)  # "dog sat" and "sat down" each stand in one of three documents
    assert both[0, 1] - words[0, 1] == pytest.approx(2 * 0.5 * rare / (1 + 1.2 * (0.25 + 0.75 * length)), rel=1e-5)
    assert (both - words)[1:].tolist() == [[0, 0, 0], [0, 0, 0]]  # neither order nor a gap is overlooked
    assert own.query("dog sat")[0] == ["dog", "sat", "dog sat"]
    assert own.named("dog sat down") == {"dog", "sat", "down", "dog sat", "sat down"}


def test_learned_weights_and_relations_count_and_new_terms_are_as_bm25s():
    model = learned()
    plain = Lexical(Analyzer("none"), BM25(1.0, 0.5), ("text",), np.ones(1, np.float32), model.terms,
                    np.ones(3, np.float32), np.ones(3, np.float32), phrases=0.0)  # fmt: skip
    own, bm25 = (m.weigh(m.count(TEXTS)).toarray() for m in (model, plain))
    column = model.vocabulary["sat"]
    assert own[:, column] == pytest.approx(bm25[:, column])
    assert own[0, 0] == pytest.approx(bm25[0, 0])
    assert own[0, 1] == pytest.approx(0.5 * bm25[0, 0])  # cat stands for dog by a half
    assert own[2, 2] == pytest.approx(0.8 * 0.5 * bm25[2, 2])
    terms, _, weights = model.query("cat cat zebra")
    assert dict(zip(terms, weights.tolist(), strict=True)) == {"cat": 1.0, "zebra": 1.0}  # 2 · 0.5, and 1


def test_a_model_comes_back_from_its_file(tmp_path: Path):
    path = tmp_path / "m.gossamer"
    model = learned()
    model.save(path)
    again = gossamer_nlp.load(path)
    assert again.about["note"] == "é"
    assert (again.neighbours, again.borrowed) == (3, 0.7)
    assert (again.weigh(again.count(TEXTS)) != model.weigh(model.count(TEXTS))).nnz == 0
    assert again.analyzer == model.analyzer
    Lexical().save(path)
    assert load(path).terms == ()
    assert load(path).phrases == Lexical().phrases > 0 == again.phrases


def test_files_that_are_no_models_are_refused(tmp_path: Path):
    path = tmp_path / "m.gossamer"
    with pytest.raises(gs.InputError, match="cannot be read"):
        load(path)
    learned().save(path)
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-10], content.replace(b'"lexical', b'"lexicaX')):
        path.write_bytes(damaged.replace(b"lexicaX", b"other  "))
        with pytest.raises(gs.InputError):
            load(path)


def test_what_does_not_fit_is_refused():
    with pytest.raises(gs.InputError, match="call fit"):
        Lexical().encode_query(["a"])
    with pytest.raises(gs.InputError, match="3 fields"):
        Lexical().count([("a", "b", "c")])
