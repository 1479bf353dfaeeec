from dataclasses import replace

import numpy as np
import pytest
import torch

from gossamer_speech import evaluate, reading
from gossamer_speech.reading import Examples


def clusters(n, classes=4, width=30, seed=1, spread=0.5):
    """Points around a corner of the cube for each class, of five speakers; the first feature is dead."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    corners = np.random.default_rng(0).integers(0, 2, (classes, width))
    features = (corners[labels] + spread * draw.standard_normal((n, width))).astype(np.float32)
    features[:, 0] = 0
    return Examples(torch.from_numpy(features), labels, draw.integers(0, 5, n))


def test_the_dual_solution_is_the_primal_one():
    train, penalty = clusters(50, width=6), 0.01
    points, aims = train.features, reading.targets(train.labels, 4)
    dual, offset = reading.weights(points @ points.T, aims, penalty)
    x, y = points - points.mean(0), aims - aims.mean(0)
    size = 10 * penalty * float((x @ x.T).diagonal().mean())
    primal = torch.linalg.solve(x.T @ x + size * torch.eye(6), x.T @ y)
    assert torch.allclose(points.T @ dual, primal, atol=1e-4)
    assert torch.allclose(points @ points.T @ dual + offset, x @ primal + aims.mean(0), atol=1e-3)


@pytest.mark.parametrize("reader", [reading.ridge, reading.logistic])
@pytest.mark.parametrize("width", [12, 200])
def test_a_reader_reads_and_its_layer_ignores_dead_features(reader, width):
    train, test = (clusters(100, width=width, seed=seed) for seed in (1, 2))
    fit = reader(train, 4)
    with torch.inference_mode():
        assert reading.percent(fit.classifier(test.features), test.labels) > 75
    assert fit.classifier.weight[:, 0].abs().max() < 1e-3 * fit.classifier.weight.abs().max()
    assert fit.held_out > 70
    noisy = reader(train, 4, replace(train, features=train.features + 0.1))
    assert not torch.equal(noisy.classifier.weight, fit.classifier.weight)


def test_neighbours():
    train, test = (clusters(200, width=40, seed=seed) for seed in (1, 2))
    nearest = reading.Neighbours(train.features, train.labels, 4)
    assert reading.percent(nearest(test.features), test.labels) > 80


def test_no_speaker_is_on_both_sides():
    speakers = np.arange(100) % 11
    folds = reading.folds(speakers)
    assert len(folds) == 5 and np.sum(folds, 0).tolist() == [1] * 100
    assert all(not set(speakers[fold]) & set(speakers[~fold]) for fold in folds)
    assert len(reading.folds(np.zeros(10))) == 5


def test_an_interval_over_speakers():
    assert reading.interval([80.0, 90.0]) == pytest.approx((85 - 63.53, 100), abs=0.01)
    assert reading.interval([80.0]) == (80.0, 80.0)


@pytest.mark.parametrize("reader", [reading.ridge, reading.logistic])
def test_words_never_learned_fall_below_the_threshold(reader):
    train = clusters(300, classes=5, width=60, spread=0.3)
    fit = reader(train, 5)
    threshold = reading.threshold(train, 5, fit)
    strange = torch.from_numpy(np.random.default_rng(9).standard_normal((100, 60)).astype(np.float32)) * 0.3 + 0.5
    with torch.inference_mode():
        known, other = ((fit.sharpness * fit.classifier(x)).softmax(1).amax(1) for x in (train.features, strange))
    assert (known >= threshold).float().mean() > 0.8 and (other < threshold).float().mean() > 0.5
    two = clusters(20, classes=2)
    assert reading.threshold(two, 2, reader(two, 2)) == 0.0


def test_unknown_words_are_counted_on_words_that_a_reader_did_not_learn():
    train, test = (
        clusters(200, classes=5, width=60, spread=spread, seed=seed) for spread, seed in ((0.3, 1), (0.1, 2))
    )
    fit = reading.ridge(train, 5)
    known, unknown = reading.strangers(train, np.ones(200, bool), test, 5, fit)
    assert len(known) == 4 * len(test.labels) and len(unknown) == len(test.labels)
    assert known.mean() > unknown.mean() + 0.1
    told = evaluate.unknown(train, test, 5, fit)
    cut = reading.threshold(train, 5, fit)
    assert told == {"known_kept": 100 * (known >= cut).mean(), "unknown_refused": 100 * (unknown < cut).mean()}
    assert told["known_kept"] > 80 and told["unknown_refused"] > 80
