"""Configurations, batches and training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gossamer as gs
from gossamer_nlp.embeddings import SparseProjection
from gossamer_nlp.features import Features
from gossamer_nlp.train import METHODS, Config, also_relevant, batches, build, prepared, train


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ragl"}, "'ragl'; did you mean 'rigl'"),
        ({"data": "docstring"}, "did you mean 'docstrings'"),
        ({"queries": "sumary"}, "did you mean 'summary'"),
        ({"sparsity": 1.0}, r"sparsity is 1.0; it must be in \[0, 1\)"),
        ({"sparsity": -0.1}, "sparsity is -0.1"),
        ({"batch": 1}, "batch is 1; it must be at least 2"),
        ({"active": 0}, "active is 0"),
        ({"data_dir": Path("x")}, "belongs to the data set 'beir'"),
    ],
)
def test_bad_values_are_refused(options, message: str):
    with pytest.raises(gs.InputError, match=message):
        Config(**options)


@pytest.fixture
def config(folder: Path) -> Config:
    return Config(data="beir", data_dir=folder, epochs=4, batch=16, sparsity=0.95, every=2)


@pytest.fixture
def found(config: Config) -> Features:
    return prepared(config.data, config.queries, config.data_dir)[1]


def test_each_method_has_its_encoder(config: Config, found: Features):
    terms = len(found.vocabulary)
    shapes = {}
    for method in METHODS:
        if method != "bm25":
            projection = build(replace(config, method=method), found).projection
            sparse = isinstance(projection, SparseProjection)
            shapes[method] = (sparse, *(projection.values if sparse else projection.vectors).shape)
    assert terms == 60
    assert shapes == {
        "dense": (False, 60, 128),
        "small-dense": (False, 60, 3),
        "random": (True, 60, 3),
        "static-random": (True, 60, 3),
        "term-weights": (True, 60, 1),
        "rigl": (True, 60, 3),
        "hybrid": (True, 60, 3),
    }


def test_batches_hold_every_pair_once_an_epoch(config: Config):
    pairs = np.stack([np.arange(50), np.arange(50) * 2], 1)
    order = list(batches(pairs, replace(config, epochs=2), torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in order] == [16] * 6
    first = np.concatenate(order[:3])
    assert len(set(first[:, 0])) == 48
    assert (first[:, 1] == 2 * first[:, 0]).all()
    assert first.tolist() != np.concatenate(order[3:]).tolist()


def test_a_document_relevant_to_another_query_of_the_batch_is_no_wrong_answer(found: Features):
    relevant = {**found.relevant, "train": [{0: 1.0, 1: 1.0}, {1: 1.0}, {2: 1.0}]}
    mask = also_relevant(np.array([[0, 0], [1, 1], [2, 2]]), replace(found, relevant=relevant))
    assert mask.tolist() == [[False, True, False], [False, False, False], [False, False, False]]


@pytest.mark.parametrize("method", ["dense", "static-random", "rigl"])
def test_training_lowers_the_loss_and_repeats(config: Config, found: Features, method: str):
    config = replace(config, method=method)
    lines: list[str] = []
    first, _ = train(config, found, lines.append)
    again, _ = train(config, found)
    for own, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert own.equal(other)
    losses = [float(line.split("loss")[1].split()[0]) for line in lines]
    assert losses[-1] < losses[0]


def test_the_topology_moves_and_stays_sparse(config: Config, found: Features):
    still, _ = train(replace(config, method="rigl", every=0), found)
    moving, _ = train(replace(config, method="rigl"), found)
    places = [encoder.projection.state_dict()["places"] for encoder in (still, moving)]
    assert places[0].equal(build(replace(config, method="rigl"), found).projection.state_dict()["places"])
    assert (places[0] != places[1]).float().mean() > 0.1
    assert all(len(set(row)) == 3 for row in places[1].tolist())


def test_what_is_not_trained_stays_as_it_was(config: Config, found: Features):
    encoder, seconds = train(replace(config, method="random"), found)
    assert seconds == 0
    assert encoder.weights.document.any().item() is False
