import io
import wave

import numpy as np
import pytest

from gossamer_speech import benchmark, report
from gossamer_speech.config import Config


@pytest.fixture(scope="module")
def results(folder):
    few = Config(data="folder", data_dir=folder, codes=16, active=4, epochs=1, warps=1)
    return [benchmark.run(few), benchmark.run(Config(data="folder", data_dir=folder, method="log-mel", warps=1))]


def test_the_page_shows_and_plays_atoms(results):
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    found = benchmark.pictures(results)
    assert len(found) == report.ATOMS
    for caption, (png, wav) in found.items():
        assert caption.startswith("Atom ") and " of topk" in caption
        assert png.startswith(b"\x89PNG") and wav.startswith(b"RIFF") and len(wav) < 12_000
    assert benchmark.pictures(results[1:]) == {}  # log-mel frames have no atoms


def test_an_atom_sounds_where_it_is_above_zero():
    patch, hertz = np.full((9, 16), -1.0), report.centres(8000, 40)[8:24]
    patch[:, 5] = 1.0
    with wave.open(io.BytesIO(report.sound(patch, hertz, 8000))) as heard:
        assert heard.getframerate() == 8000
        samples = np.frombuffer(heard.readframes(heard.getnframes()), np.uint8).astype(float) - 128
    slow = samples[-8000 * 36 // 100 :]
    loudest = np.abs(np.fft.rfft(slow * np.hanning(len(slow)))).argmax() * 8000 / len(slow)
    assert abs(loudest - hertz[5]) < 5


def test_the_middles_of_mel_bands_rise():
    middles = report.centres(8000, 40)
    assert 60 < middles[0] < 120 and 3700 < middles[-1] < 4000 and (np.diff(middles) > 0).all()
