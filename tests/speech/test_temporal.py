from dataclasses import replace

import numpy as np
import pytest
import torch

from gossamer_speech import data, espeak, evaluate, temporal
from gossamer_speech.config import Config
from gossamer_speech.patches import Shape
from gossamer_speech.recogniser import Recogniser, summed


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_stretching_by_nothing_changes_nothing_and_by_something_moves_along_its_axis_alone():
    images = torch.randn(3, 48, 40, generator=seeded())
    for axis in (1, 2):
        assert torch.allclose(temporal.stretched(images, axis, 0.0, 0.0, seeded()), images, atol=1e-5)
    ramp = torch.linspace(0, 1, 48)[None, :, None].expand(5, 48, 40)
    later = temporal.stretched(ramp, 1, 0.2, 0.0, seeded())
    assert torch.equal(later, later[:, :, :1].expand_as(later)) and (later.diff(dim=1) >= 0).all()
    assert later.min() >= 0 and later.max() <= 1 and not torch.allclose(later, ramp, atol=0.01)
    assert torch.allclose(temporal.stretched(ramp, 2, 0.2, 0.4, seeded()), ramp, atol=1e-6)


def test_noise_adds_power_to_half_of_the_words():
    images = torch.zeros(400, 48, 40)
    heard = temporal.noisy(images, images, seeded())
    louder = (heard > 1e-7).any((1, 2))
    assert 0.4 < louder.float().mean() < 0.6 and (heard >= -1e-6).all()
    mean = (temporal.SPREAD * heard[louder]).exp().mean((1, 2)) - 1  # of the noise, to that of the word
    assert mean.min() > 10 ** (-temporal.DECIBELS / 10) * 0.9 and mean.max() < 1.1


def test_augmented_words_are_at_one_level_and_are_others_each_time():
    images, generator = torch.randn(64, 48, 40, generator=seeded(1)), seeded()
    first, second = (temporal.augmented(images, images.flip(0), generator) for _ in range(2))
    assert first.shape == images.shape and not torch.equal(first, second)
    assert first.mean((1, 2)).abs().max() < 0.2 and first.std((1, 2)).min() > 0.6 and first.std((1, 2)).max() < 1.1
    assert torch.equal(first, temporal.augmented(images, images.flip(0), seeded()))


def test_the_network_is_sparse_and_its_convolutions_end_in_time_alone():
    body, classifier = temporal.network(7)
    assert classifier(body.eval()(torch.randn(2, 3, 48, 40))).shape == (2, 7)
    config = Config(method="temporal", epochs=1)
    images, labels = torch.randn(20, 1, 48, 40, generator=seeded()), torch.arange(20) % 2
    _, _, masking, seconds = temporal.train(config, images, labels, 2)
    assert masking is not None and masking.sparsity == pytest.approx(0.8, abs=0.01) and seconds > 0


def test_synthetic_voices_say_the_words_names_too(folder):
    config = Config(data="folder", data_dir=folder, method="temporal", epochs=1, warps=1, synthetic=1, sparsity=0.0)
    assert len(espeak.everyone(("no", "yes"), 2)) == 2 * 2 * 51
    words = data.load("folder", folder)
    heard = evaluate.Heard(words, config, Shape.of(config), [words.speakers == 0])
    assert heard.synthetic().shape == (3 * 51, 1, 48, 40)
    recogniser = evaluate.learn(config, heard, words.speakers != 0, print)[0]
    assert recogniser(heard.clean()).shape == (24, 3)


@pytest.mark.parametrize("classifier", ["ridge", "logistic", "knn"])
def test_readers_learn_from_synthetic_voices_and_noise(folder, classifier):
    base = Config(data="folder", data_dir=folder, method="mfcc-13", warps=1, classifier=classifier, segments=2)
    words = data.load("folder", folder)
    train = words.speakers != 0
    scores = []
    for config in (base, replace(base, synthetic=1), replace(base, augment=True)):
        heard = evaluate.Heard(words, config, Shape.of(config), [~train, train])
        recogniser, _, examples, _ = evaluate.learn(config, heard, train, lambda line: None)
        assert len(examples.features) == train.sum()  # few labels are drawn from recordings alone
        scores.append(recogniser(heard.clean()).detach().numpy())
    assert np.isfinite(scores).all()
    assert not np.allclose(scores[0], scores[1]) and not np.allclose(scores[0], scores[2])


def test_trims_cut_the_quiet_ends_off_once_more_and_are_views():
    shape = Shape(warps=1, trims=(30.0, 10.0), normalise="level")
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    word = noise * np.repeat(np.float32([0.02, 0.1, 1.0, 0.1, 0.02]), 1600)  # 34 and 20 dB below the middle
    whole, loud, loudest = shape.parts(word)
    assert len(whole) == 8000 and abs(len(loud) - 4800) <= 320 and abs(len(loudest) - 1600) <= 320
    images = shape.images([word, word])
    assert shape.views == 3 and images.shape == (2, 3, 48, 40)
    assert torch.equal(images[0, 1], Shape(warps=1, normalise="level").images([loud])[0, 0])
    assert replace(shape, warps=5).views == 15 and Shape(trims=[30.0]).trims == (30.0,)  # pyright: ignore


def test_scores_are_summed():
    shape, names = Shape(warps=1), ("no", "yes")
    parts = [Recogniser(torch.nn.Flatten(), torch.nn.Linear(48 * 40, 2), shape, names) for _ in range(2)]
    images = torch.randn(3, 1, 48, 40, generator=seeded())
    assert torch.allclose(summed(*parts)(images), parts[0](images) + parts[1](images), atol=1e-5)


def test_a_network_and_codes_are_read_together(folder):
    config = Config(data="folder", data_dir=folder, method="temporal-topk", epochs=1, warps=1, codes=16, active=4)
    words = data.load("folder", folder)
    config = replace(config, levels=(), trims=(20.0,))
    heard = evaluate.Heard(words, config, Shape.of(config), [words.speakers == 0])
    fold = evaluate.fold(config, heard, words.speakers == 0)
    assert fold.accuracy["clean"] > 60 and fold.extra["accuracy_of_topk"] > 80
    assert {"accuracy_of_temporal", "explained_variance"} <= fold.extra.keys()
    assert fold.trained.masking is not None and fold.recogniser.example.shape == (1, 2, 48, 40)
