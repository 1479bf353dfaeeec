"""Texts as bags of terms."""

import math

import numpy as np
import pytest

from gossamer_nlp.data import Collection
from gossamer_nlp.features import bags, features, ranges

TEXTS = [(("b", "a", "b"), ("a",)), ((), ("c",)), ((), ()), (("a", "x"), ("a", "a"))]
VOCABULARY = {"a": 0, "b": 1, "c": 2}


def test_ranges():
    indices, owners = ranges(np.array([0, 2, 2, 5]), np.array([2, 1, 0, 2]))
    assert indices.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert owners.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]


def test_a_batch_holds_terms_by_text_and_frequencies_by_field():
    batch = bags(TEXTS, VOCABULARY).batch(np.array([3, 2, 0]))
    assert batch.terms.tolist() == [0, 0, 1]
    assert batch.rows.tolist() == [0, 2, 2]
    assert batch.pairs.tolist() == [0, 0, 1, 1, 2]
    assert batch.fields.tolist() == [0, 1, 0, 1, 0]
    assert batch.frequencies.tolist() == [1, 2, 1, 1, 2]
    assert batch.lengths.tolist() == [[2, 2], [0, 0], [3, 1]]  # the unknown x counts


def test_a_part_is_what_its_rows_are():
    found = bags(TEXTS, VOCABULARY)
    part = found.part(slice(1, 4))
    for own, other in zip(part.batch(np.arange(3)), found.batch(np.arange(1, 4)), strict=True):
        assert own.tolist() == other.tolist()


def test_idf_and_vocabulary_come_from_the_documents():
    queries = {"train": ((("c", "new"), {1: 1.0}),), "development": (), "test": ()}
    found = features(Collection("toy", ("one", "two"), tuple(TEXTS), queries, "", {}))
    assert found.vocabulary == {"a": 0, "b": 1, "c": 2, "x": 3}
    expected = [math.log(1 + (4 - n + 0.5) / (n + 0.5)) for n in (2, 1, 1, 1)]
    assert found.idf.tolist() == pytest.approx(expected)
    assert found.queries["train"].terms.tolist() == [2]
    assert found.queries["train"].lengths.tolist() == [[2]]
    assert found.relevant["train"] == [{1: 1.0}]
