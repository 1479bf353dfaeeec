import numpy as np
import pytest
import soundfile

from gossamer.threads import using_threads


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache folder of the tests' own, filled once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def one_thread():
    with using_threads(1):
        yield


def spoken(*frequencies: float, seconds: float = 0.3, rate: int = 8000, seed: int = 0) -> np.ndarray:
    """One frequency after another, each with a little noise: a word that can be told from others."""
    draw, time = np.random.default_rng(seed), np.arange(round(seconds * rate / len(frequencies))) / rate
    sound = np.concatenate([np.sin(2 * np.pi * f * time) for f in frequencies])
    return (0.5 * sound + 0.01 * draw.standard_normal(len(sound))).astype(np.float32)


WORDS = {"no": (400, 900), "yes": (1800, 700), "stop": (1200, 2600)}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Three words by four speakers, twice each: WORD/SPEAKER_N.wav."""
    home = tmp_path_factory.mktemp("words")
    for number, (word, frequencies) in enumerate(WORDS.items()):
        (home / word).mkdir()
        for speaker in range(4):
            for take in range(2):
                higher = [f * (1 + 0.03 * speaker) for f in frequencies]
                sound = spoken(*higher, seconds=0.3 + 0.02 * speaker, seed=100 * number + 10 * speaker + take)
                soundfile.write(home / word / f"{'abcd'[speaker]}_{take}.wav", sound, 8000)
    return home


@pytest.fixture(scope="session")
def tone():
    """The function that makes a word."""
    return spoken


@pytest.fixture(scope="session")
def frequencies():
    """The frequencies of each word of `folder`."""
    return WORDS


@pytest.fixture(scope="session")
def sounds():
    """A function that says each word by six speakers; their samples and their words."""

    def say(seed: int = 0):
        said = [(word, speaker) for word in WORDS for speaker in range(6)]
        return [spoken(*(f * (1 + 0.02 * s) for f in WORDS[w]), seed=seed + s) for w, s in said], [w for w, _ in said]

    return say
