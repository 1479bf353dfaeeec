import numpy as np
import pytest
import torch

from gossamer_speech import few, reading
from gossamer_speech.reading import Examples


def clusters(n: int, seed: int) -> Examples:
    """Points around four corners of a cube in 40 dimensions, in turn."""
    draw, labels = np.random.default_rng(seed), np.arange(n) % 4
    corners = np.random.default_rng(0).integers(0, 2, (4, 40))
    points = corners[labels] + 1.0 * draw.standard_normal((n, 40))
    return Examples(torch.from_numpy(points.astype(np.float32)), labels, draw.integers(0, 5, n))


def test_the_primal_solution_is_the_dual_one():
    train = clusters(60, 1)
    dual, offset = reading.weights(train.features @ train.features.T, reading.targets(train.labels, 4), 0.01)
    read = few.ridge(train.features, train.labels, 4, 0.01)(train.features)
    assert torch.allclose(train.features @ train.features.T @ dual + offset, read, atol=1e-3)


def test_self_training_moves_the_border_to_the_gap_between_the_words():
    points = torch.tensor([0.0, 7, 1, 2, 3, 4, 8, 9, 10, 11])[:, None]
    truth = np.array([0, 1, 0, 0, 0, 0, 1, 1, 1, 1])
    labels = np.where(np.arange(10) < 2, truth, -1)  # half way between 0 and 7 the word at 4 is on the wrong side
    first = few.self_trained(points, labels, 2, rounds=0)
    assert np.flatnonzero(first(points).argmax(1).numpy() != truth).tolist() == [5]
    # the two surest of each, 1 and 2, 10 and 11, put the border at half way between 1 and 28 / 3
    assert few.self_trained(points, labels, 2, rounds=2)(points).argmax(1).tolist() == truth.tolist()


def test_all_labels_known_is_ridge_regression():
    train = clusters(60, 1)
    read = few.self_trained(train.features, train.labels, 4)(train.features)
    assert torch.equal(read, few.ridge(train.features, train.labels, 4, few.LATER)(train.features))


def test_words_without_labels_and_synthetic_ones_help():
    train, test, more = clusters(400, 1), clusters(400, 2), clusters(80, 3)
    one, five = (few.supervised(train, test, 4, n, 0.01, seed=0) for n in (1, 5))
    assert one < five and five == few.supervised(train, test, 4, 5, 0.01, seed=0)
    points, tests, names = few.components(train.features, test.features, more.features)
    assert points.shape == (400, 40)
    found = few.semi_supervised(points, tests, train, test, 4, 1, 0)
    assert found > one + 5 and found == few.semi_supervised(points, tests, train, test, 4, 1, 0)
    assert few.semi_supervised(points, tests, train, test, 4, 1, 0, names) > found


@pytest.mark.parametrize("n", [3, 500])
def test_components_keep_products(n):
    train = clusters(n, 1)
    (points,) = few.components(train.features)
    space = reading.Space.of(train.features)(train.features)
    centred = space - space.mean(0)
    assert torch.allclose(points @ points.T, centred @ centred.T, atol=1e-3)
