"""Word embeddings: co-occurrence, coherence and sparse codes."""

import math

import numpy as np
import pytest
import torch

import gossamer as gs
from gossamer_nlp.words import (
    Config,
    coherence,
    dense_embeddings,
    ppmi,
    presence,
    sparse_embeddings,
    top_words,
    vocabulary,
)

ANIMALS, TOOLS = ["zebra", "horse", "camel", "tiger"], ["saw", "drill", "hammer", "chisel"]


def two_topics(count: int = 300) -> list[list[str]]:
    draw = np.random.default_rng(0)
    return [list(draw.choice((ANIMALS, TOOLS)[i % 2], 6)) for i in range(count)]


def test_vocabulary_by_frequency_then_alphabet():
    assert vocabulary([["sum", "axis", "sum", "of", "x2y"], ["axis", "zip"]], 3) == ["axis", "sum", "zip"]


def test_ppmi_by_hand():
    found = ppmi([["aaa", "bbb", "unknown", "aaa"], ["bbb"]], ["aaa", "bbb"], 2).toarray()
    # Within two words: aaa–bbb twice (distances 1 and 2); the texts do not touch. Contexts: aaa 2, bbb 2.
    assert found.tolist() == [[0, pytest.approx(math.log(1 / 0.5))], [pytest.approx(math.log(2)), 0]]


def test_coherence_by_hand():
    present = presence([["a", "b"], ["a", "b"], ["a"], ["c"]], ["a", "b", "c"])
    groups = np.array([[0, 1], [0, 2]])
    npmi = math.log(0.5 / (0.75 * 0.5)) / -math.log(0.5)
    assert coherence(groups, present).tolist() == pytest.approx([npmi, -1.0])


def test_words_of_one_topic_share_dimensions():
    texts = two_topics()
    words = vocabulary(texts, 8)
    dense = dense_embeddings(ppmi(texts, words, 5), 2)
    assert np.linalg.norm(dense, axis=1) == pytest.approx(np.ones(8))
    config = Config(words=8, dense=2, codes=4, active=1, steps=200, top=4)
    sparse, explained = sparse_embeddings(dense, config)
    assert explained > 0.9
    assert (sparse >= 0).all()
    assert (sparse > 0).sum(1).max() == 1
    groups = top_words(sparse, 4)
    found = {frozenset(words[i] for i in group) for group in groups}
    assert found == {frozenset(ANIMALS), frozenset(TOOLS)}
    assert (coherence(groups, presence(texts, words)) > 0.5).all()
    again, _ = sparse_embeddings(dense, config)
    assert torch.from_numpy(sparse).equal(torch.from_numpy(again))


def test_bad_values_are_refused():
    for options, message in (
        ({"data": "beir"}, "docstrings, docstrings-all"),
        ({"dense": 3000}, "below the number of words"),
        ({"active": 0}, "active is 0"),
        ({"top": 1}, "at least 2"),
    ):
        with pytest.raises(gs.InputError, match=message):
            Config(**options)
