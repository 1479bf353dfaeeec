"""Documents that a small sparse transformer expands: its formula, its training, its file, and an index of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gossamer as gs
import gossamer_nlp
from gossamer_nlp import splade
from gossamer_nlp.bags import Vocabulary, bags
from gossamer_nlp.config import Config
from gossamer_nlp.data import load
from gossamer_nlp.export.exported import of_index
from gossamer_nlp.features import Features, features
from gossamer_nlp.model import Lexical
from gossamer_nlp.splade import Expansion
from gossamer_nlp.text import Analyzer
from gossamer_nlp.train import encode, train
from gossamer_nlp.trained import lexical, vectors

TERMS = ("cat", "felin", "dog", "bird")


@pytest.fixture
def config(folder: Path) -> Config:
    return Config(
        method="splade-doc", data="beir", data_dir=folder, pairs="judged", epochs=2, batch=16, layers=1, width=16,
        longest=8,
    )  # fmt: skip


@pytest.fixture
def found(config: Config) -> Features:
    return features(load(config.data, config.queries, config.data_dir))


def by_hand() -> Lexical:
    """A model whose network does nothing but look terms up: cat and felin have one vector, the others their own."""
    network = Expansion(4, 1, 4, 6)
    with torch.no_grad():
        for module in network.body.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.zero_()
        network.body.words.weight[:] = torch.tensor([[1, -1, 0, 0], [1, -1, 0, 0], [0, 0, 1, -1], [-1, 0, 0, 1.0]])
    ones = np.ones(4, np.float32)
    return Lexical(
        Analyzer(), terms=TERMS, document_weights=ones, query_weights=ones, phrases=0.0, network=network.eval()
    )


def test_the_weights_are_those_of_the_formula():
    torch.manual_seed(0)
    network = Expansion(200, 1, 8, 5)
    with torch.no_grad():
        network.bias.uniform_(-0.3, 0.3)
    sequences = torch.tensor([[3, 7, 7, 150, -1], [-1, -1, -1, -1, -1], [9, 1, 2, 3, 4]])
    values, places, rows = network(sequences)
    made = torch.zeros(3, 200).index_put((rows, places), values)
    hidden = network.body(*splade.inputs(sequences))
    logits = hidden @ network.body.words.weight.T / 8**0.5
    logits[0, 4] = -torch.inf
    expected = network.log_scale.exp() * torch.log1p(torch.relu(logits.amax(1) + network.bias))
    expected = torch.where(expected >= expected.sort(1, descending=True).values[:, [splade.MOST - 1]], expected, 0.0)
    expected[1] = 0
    torch.testing.assert_close(made, expected)
    assert 0 < (made[0] > 0).sum() <= splade.MOST


def test_a_document_is_found_by_a_term_that_it_lacks(tmp_path: Path):
    with gossamer_nlp.Index.create(tmp_path / "own", by_hand()) as index:
        index.add([{"id": "a", "text": "the cat purrs"}, {"id": "b", "text": "a dog"}, {"id": "c", "text": ""}])
        hits = index.search("felines")
        assert [hit.id for hit in hits] == ["a"]
        (match,) = index.explain("felines", "a")
        assert (match.term, match.literal) == ("felin", False)
        index.commit()
        assert index.search("felines")[0].score == pytest.approx(hits[0].score)
        made = of_index(index)
        assert (made.query("felines") @ made.documents.T).toarray()[0, 0] == pytest.approx(hits[0].score, rel=1e-5)
    with gossamer_nlp.Index.open(tmp_path / "own") as again:  # the network is in the index's file
        assert [hit.id for hit in again.search("felines")] == ["a"]


def test_a_document_is_read_once_whoever_opens_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer = gossamer_nlp.Index.create(tmp_path / "own", by_hand())
    writer.add([{"id": "a", "text": "the cat purrs, and a dog"}, {"id": "a", "text": "a new cat"}])
    writer.commit()
    writer.add([{"id": "b", "text": "another new dog"}, {"id": "c", "text": "cats"}, {"id": "d", "text": ""}])
    monkeypatch.setattr(Expansion, "read", None)
    reader = gossamer_nlp.Index.open(tmp_path / "own")
    for query in ("felines", "dog", "new another"):
        found = [(hit.id, hit.score) for hit in reader.search(query)]
        assert found == [(hit.id, hit.score) for hit in writer.search(query)]
        assert found
    writer.close()
    reader.refresh()
    assert {hit.id for hit in reader.search("felines")} == {"a", "c"}


def test_queries_need_no_network():
    model = by_hand().fit(["cat", "dog"])
    model.network.body = None  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    assert model.encode_query(["cats and birds"]).nnz == 2
    with pytest.raises(gs.InputError, match="its `count`"):
        model.weigh(bags([("", "cat")], model.analyzer, model.vocabulary, 2))


def test_training_keeps_the_layers_sparse_and_repeats(config: Config, found: Features):
    lines: list[str] = []
    first, _ = train(config, found, lines.append)
    again, _ = train(config, found)
    weights = [p for name, p in first.named_parameters() if "layers" in name and p.ndim == 2]
    zeros = sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)
    assert 0.795 < zeros < 0.9  # what grew last may still be zero
    start, _ = train(replace(config, epochs=0), found)
    assert any(
        (one == 0).ne(other == 0).any()
        for one, other in zip(first.state_dict().values(), start.state_dict().values(), strict=True)
    )
    for one, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert one.equal(other)
    assert len(lines) == 2


def test_a_training_that_is_stopped_goes_on(config: Config, found: Features, tmp_path: Path):
    own = replace(config, checkpoint=tmp_path / "run.checkpoint")

    def stop(line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="epoch 1"):
        train(own, found, stop)
    again, _ = train(own, found)
    whole, _ = train(config, found)
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert one.equal(other)


def test_what_is_kept_gives_the_same_vectors_by_the_engine(
    config: Config, found: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encoder, _ = train(config, found)
    documents, _ = vectors(encoder, found, config)
    model = lexical(encoder, found, config)
    model.save(tmp_path / "m.gossamer")
    monkeypatch.setattr(splade, "COMPILED_FROM", 1)
    again = gossamer_nlp.load(tmp_path / "m.gossamer").take(found.documents)
    made = again.encode_document(found.collection.documents)
    assert isinstance(again.network, Expansion)
    assert again.network.engine is not None
    assert abs(made - documents).max() < 1e-4
    assert (tmp_path / "m.gossamer").stat().st_size < 60_000


def test_the_evaluation_of_training_is_that_of_the_model(config: Config, found: Features):
    encoder, _ = train(config, found)
    assert encoder.network is not None
    read = encoder.network.read(found.collection.documents, found.documents, found.analyzer, found.vocabulary)
    own = encode(encoder, read)
    documents, _ = vectors(encoder, found, config)
    assert abs(own - documents[:, : len(found.vocabulary)]).max() < 1e-5


def test_a_damaged_network_is_refused(tmp_path: Path):
    path = tmp_path / "m.gossamer"
    model = by_hand()
    model.save(path)
    content = path.read_bytes()
    for damaged in (content.replace(b"splade-doc", b"another-00"), content.replace(b"sha256", b"sha255")):
        path.write_bytes(damaged)
        with pytest.raises(gs.InputError):
            gossamer_nlp.load(path)
    assert isinstance(model.network, Expansion)
    model.network.kept[0] = 7
    model.save(path)
    with pytest.raises(gs.InputError, match="knows other terms"):
        gossamer_nlp.load(path)


def test_terms_that_are_new_are_not_read():
    model, words = by_hand(), Vocabulary((term, i) for i, term in enumerate([*TERMS, "new"]))
    assert model.network is not None
    counted = bags([("new bird", "dog")], Analyzer(), words, 2)
    read = model.network.read([("new bird", "dog")], counted, Analyzer(), words)
    assert read.sequences is not None
    assert read.sequences.tolist() == [[3, 2, -1, -1, -1, -1]]
