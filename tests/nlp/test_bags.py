"""Texts as bags of terms."""

import numpy as np
import pytest

from gossamer_nlp.bags import Vocabulary, bags, joined, ranges
from gossamer_nlp.phrases import BUCKETS, buckets
from gossamer_nlp.text import Analyzer

TEXTS = [("b a b", "a"), ("", "c"), ("", ""), ("a x", "a a")]
PLAIN = Analyzer("none")


def vocabulary() -> Vocabulary:
    return Vocabulary(a=0, b=1, c=2)


def test_ranges():
    indices, owners = ranges(np.array([0, 2, 2, 5]), np.array([2, 1, 0, 2]))
    assert indices.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert owners.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]


def test_a_batch_holds_terms_by_text_and_frequencies_by_field():
    batch = bags(TEXTS, PLAIN, vocabulary(), 2).batch(np.array([3, 2, 0]))
    assert batch.terms.tolist() == [0, 0, 1]
    assert batch.rows.tolist() == [0, 2, 2]
    assert batch.pairs.tolist() == [0, 0, 1, 1, 2]
    assert batch.fields.tolist() == [0, 1, 0, 1, 0]
    assert batch.frequencies.tolist() == [1, 2, 1, 1, 2]
    assert batch.lengths.tolist() == [[2, 2], [0, 0], [3, 1]]  # the unknown x counts


def test_counts_are_over_all_fields_and_the_vocabulary_grows():
    words = vocabulary()
    counts = bags(TEXTS, PLAIN, words, 2, grow=True).counts(len(words))
    assert words["x"] == 3
    assert counts.toarray().tolist() == [[2, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [3, 0, 0, 1]]


@pytest.mark.parametrize("texts", [[], [("", "")], [("?", "!")] * 3])
def test_texts_without_terms(texts: list[tuple[str, str]]):
    found = bags(texts, PLAIN, vocabulary(), 2)
    assert len(found) == len(texts)
    assert found.counts(3).nnz == 0


def test_bags_one_after_the_other():
    whole = bags(TEXTS * 2, PLAIN, vocabulary(), 2)
    parts = joined([bags(TEXTS[:3], PLAIN, vocabulary(), 2), bags(TEXTS[3:] + TEXTS, PLAIN, vocabulary(), 2)])
    for name in ("pointers", "terms", "entry_pointers", "fields", "frequencies", "lengths"):
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()


def test_phrases_are_two_known_terms_in_a_row_within_a_field():
    found = bags(TEXTS, PLAIN, vocabulary(), 2, phrases=True).phrases
    assert found is not None
    assert np.diff(found.pointers).tolist() == [2, 0, 0, 1]  # b a, a b; none; none; a a, for x is not known
    assert found.lengths.tolist() == [[3, 1], [0, 1], [0, 0], [2, 2]]
    parts = joined([bags(part, PLAIN, vocabulary(), 2, phrases=True) for part in (TEXTS[:3], TEXTS[3:])]).phrases
    assert parts is not None
    assert parts.terms.tolist() == found.terms.tolist()
    keys = vocabulary().hashes
    assert found.terms[-1] == buckets(keys[:1], keys[:1])[0] < BUCKETS
