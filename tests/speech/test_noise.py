import numpy as np
import pytest

from gossamer_speech import noise


def decibels(samples, noisy):
    return 10 * np.log10(np.square(samples).mean() / np.square(noisy - samples).mean())


@pytest.mark.parametrize("kind", ["white", "babble"])
def test_noise_is_as_loud_as_asked_and_the_same_again(kind, tone):
    sound, others = tone(500, seconds=1.0), [tone(900), tone(1500, 300)]
    draws = (np.random.default_rng(0) for _ in range(2))
    first, again = (noise.degraded(sound, kind, 5.0, 8000, others, draw) for draw in draws)
    assert decibels(sound, first) == pytest.approx(5, abs=0.01) and np.array_equal(first, again)


def test_a_room_smears_a_click():
    click = np.zeros(4000, np.float32)
    click[10] = 1
    heard = noise.reverberation(click, 8000, np.random.default_rng(0))
    assert heard[10] == pytest.approx(5) and (heard[:10] == pytest.approx(0, abs=1e-5))
    early, late = np.square(heard[11:800]).mean(), np.square(heard[2400:3200]).mean()
    assert early > 100 * late > 0
    assert np.array_equal(noise.degraded(click, "none", 0, 8000, [], np.random.default_rng(0)), click)
