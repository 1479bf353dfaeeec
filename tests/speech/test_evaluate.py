import numpy as np
import pytest
import torch
from torch import nn

from gossamer.nn import SparseAutoencoder, TopK
from gossamer_speech import evaluate
from gossamer_speech.evaluate import Examples, Scaled
from gossamer_speech.features import MELS, stack


def clusters(n: int, classes: int, width: int, seed: int, spread: float = 0.3) -> Examples:
    """Points around a corner of the cube for each class; the first code is dead."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    corners = np.random.default_rng(0).integers(0, 2, (classes, width))
    codes = (corners[labels] + spread * draw.standard_normal((n, width))).astype(np.float32)
    codes[:, 0] = 0
    return Examples(codes, labels, draw.integers(0, 10, n))


@pytest.mark.parametrize("scaling", evaluate.SCALINGS)
@pytest.mark.parametrize("width", [5, 50])
def test_coordinates_keep_every_inner_product(scaling, width):
    train, test = (clusters(20, 4, width, seed).codes for seed in (1, 2))
    space = Scaled.of(train, test, scaling)
    a, b = ((codes - train.mean(0)) / space.scale for codes in (train, test))
    assert np.allclose(space.train @ space.train.T, a @ a.T, atol=1e-4)
    assert np.allclose(space.test @ space.train.T, b @ a.T, atol=1e-4)
    assert {space.train.dtype, space.test.dtype} == {np.dtype(np.float32)}


def test_scalings():
    train = np.array([[0.0, 0.0], [2.0, 8.0]], np.float32)  # standard deviations 1 and 4; √2 for the width
    assert np.allclose(Scaled.of(train, train, "each").scale, np.array([1, 4]) * 2**0.5)
    assert np.allclose(Scaled.of(train, train, "all").scale, (17 / 2) ** 0.5 * 2**0.5)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("width", [12, 200])
def test_the_classifier_scores_raw_codes_as_the_fit_did(classes, width):
    train, test = (clusters(80, classes, width, seed) for seed in (1, 2))
    found = evaluate.recognise(train, test, seed=0)
    with torch.inference_mode():
        predicted = found.classifier(torch.from_numpy(test.codes)).argmax(1).numpy()
    assert found.accuracy == 100 * np.mean(predicted == test.labels) > 90
    assert found.classifier.weight.shape == (classes, width)
    assert (found.classifier.weight[:, 0] == 0).all()


def test_more_words_help():
    train, test = (clusters(200, 8, 40, seed, spread=0.8) for seed in (1, 2))
    found = evaluate.recognise(train, test, seed=0)
    assert found.few[1] < found.few[5] < found.accuracy
    assert found.few == evaluate.recognise(train, test, seed=0).few


def test_labels_of_the_test_words_choose_nothing():
    train, test = (clusters(80, 4, 12, seed) for seed in (1, 2))
    wrong = Examples(test.codes, (test.labels + 1) % 4, test.speakers)
    right, found = (evaluate.recognise(train, part, seed=0) for part in (test, wrong))
    assert (right.strength, right.scaling, right.held_out) == (found.strength, found.scaling, found.held_out)
    assert torch.equal(right.classifier.weight, found.classifier.weight)


def test_held_out_words_are_of_other_speakers():
    train = clusters(200, 4, 5, 1)
    held = evaluate.held_out(train, seed=3)
    assert not set(train.speakers[held]) & set(train.speakers[~held])
    assert 0.1 < held.mean() < 0.5
    assert not np.array_equal(held, evaluate.held_out(train, seed=4))


def test_where_speakers_are_few_words_are_held_out():
    train = clusters(200, 4, 5, 1)
    held = evaluate.held_out(Examples(train.codes, train.labels, train.speakers % 3), seed=0)
    assert held.sum() == 50


def test_pooled_codes_are_those_of_each_word():
    words = [torch.randn(n, MELS) for n in (9, 4, 1)]
    encoder = nn.Sequential(nn.Identity(), nn.ReLU())
    found = evaluate.pooled(encoder, words, 2)
    expected = [evaluate.pool(stack(word).relu(), 2).numpy() for word in words]
    assert np.array_equal(found, np.stack(expected))


def test_a_dictionary_by_hand():
    autoencoder = SparseAutoencoder(2, 3, TopK(1))
    with torch.no_grad():
        autoencoder.encoder.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        autoencoder.decoder.weight.copy_(autoencoder.encoder.weight.T)
    frames = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 5.0], [1.0, 2.0]])
    found = evaluate.dictionary(autoencoder, frames, frames)
    # the one error is the 1 of the last frame; the means are 1 and 2, so the squares about them sum to 6 and 14
    assert found["explained_variance"] == pytest.approx(1 - 1 / 20)
    assert found["dead_codes"] == pytest.approx(1 / 3)
    assert evaluate.active_codes(nn.Sequential(autoencoder.encoder, autoencoder.activation), frames) == 1.0
