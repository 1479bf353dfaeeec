import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct

from gossamer import InputError
from gossamer_speech import features
from gossamer_speech.features import Front, Moments, Stream


def test_a_tone_peaks_in_its_band_and_the_mean_is_gone(tone):
    front = Front()
    frames = front.frames(tone(500, 2000))
    assert frames.shape == (1 + (2400 - 200) // 80, 40)
    assert np.abs(frames.mean(0)).max() < 1e-4 and frames.std() == pytest.approx(1, abs=0.1)
    mel = [2595 * np.log10(1 + f / 700) for f in (60, 500, 2000, 4000)]
    for frame, place in ((frames[3], mel[1]), (frames[-4], mel[2])):
        expected = (place - mel[0]) / (mel[3] - mel[0]) * 41 - 1
        assert abs(float(frame.argmax()) - expected) <= 1


def test_loudness_does_not_matter_and_warping_shifts_bands(tone):
    front, sound = Front(), tone(700, 1500)
    assert np.allclose(front.frames(sound), front.frames(8 * sound), atol=0.01)
    power = front.power(tone(1000))
    low, high = (int(front.bands(power, warp)[5].argmax()) for warp in (0.88, 1.12))
    assert low > high
    assert features.filters(8000, 256, 40).sum() == pytest.approx(features.filters(8000, 256, 40, 1.0).sum())


def test_a_level_leaves_a_word_its_spectrum(tone):
    bands = Front(normalise="none").frames(tone(500, 2000))
    frames = Front(normalise="level").frames(tone(500, 2000))
    assert frames.mean() == pytest.approx(0, abs=1e-4) and frames.std() == pytest.approx(1, abs=1e-3)
    assert np.allclose(frames, (bands - bands.mean()) / bands.std(), atol=1e-3)


def test_words_become_equally_long(tone):
    frames = np.array([[0.0], [2.0], [4.0]], np.float32)
    assert features.of_length(frames, 5)[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert features.of_length(frames[:1], 3)[:, 0].tolist() == [0, 0, 0]
    assert features.images(tone(500), Front(), 48, (0.9, 1.0)).shape == (2, 48, 40)


def test_windows_repeat_the_ends():
    frames = np.arange(4.0, dtype=np.float32)[:, None]
    assert features.windows(frames, 5, 2).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 3]]


def test_cepstra_and_deltas_by_hand():
    frames = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
    assert np.allclose(features.cepstra(frames, 13), dct(frames, norm="ortho")[:, :13], atol=1e-5)
    ramp = 3 * np.arange(9.0)[:, None]
    assert np.allclose(features.deltas(ramp)[2:-2], 3)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 6000), max_size=6),
    st.sampled_from([(1, 1), (5, 2), (9, 5)]),
    st.integers(0, 9000),
    st.sampled_from(["running", "utterance", "level", "mean"]),
)
def test_a_stream_gives_the_bits_of_the_whole(cuts, geometry, length, normalise):
    sound = np.random.default_rng(0).standard_normal(length).astype(np.float32)
    front, whole = Front(normalise=normalise), Moments()
    whole.push(front.bands(front.power(sound)))
    stream = Stream(front, *geometry, None if normalise == "running" else whole)
    parts = [stream.push(chunk) for chunk in np.split(sound, sorted(min(cut, length) for cut in cuts))]
    found = np.concatenate([*parts, stream.close()])
    expected = features.windows(front.frames(sound), *geometry) if length else found[:0]
    assert np.array_equal(found, expected)


def test_a_stream_cannot_know_the_end():
    with pytest.raises(InputError, match="'utterance', which needs the whole"):
        Stream(Front(), 5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"rate": 10}, "rate is 10"), ({"mels": 0}, "mels is 0"), ({"normalise": "all"}, "normalise is 'all'")],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        Front(**wrong)
