import sys

import numpy as np
import pytest

from gossamer import InputError
from gossamer_speech import espeak


@pytest.fixture(scope="module")
def spoken():
    return espeak.speak(espeak.script())


def test_test_voices_are_never_heard_in_training():
    script = espeak.script()
    heard, unheard = ({u.voice for u in script if u.test == test} for test in (False, True))
    assert (len(heard), len(unheard), heard & unheard) == (30, 21, set())
    assert len(script) == 20 * (30 + 3 * 21)
    assert script == espeak.script()


def test_every_utterance_has_a_sound_of_its_own(spoken):
    assert len(spoken) == len(espeak.script())
    assert {samples.dtype for samples in spoken} == {np.dtype(np.int16)}
    assert all(0.1 < len(samples) / espeak.SAMPLE_RATE < 1.5 and np.abs(samples).max() > 1000 for samples in spoken)
    assert len({samples.tobytes() for samples in spoken}) == len(spoken)


def test_the_same_call_gives_the_same_bytes(spoken):
    assert [samples.tobytes() for samples in espeak.speak(espeak.script())] == [samples.tobytes() for samples in spoken]


def test_a_synthesiser_that_fails_is_named_with_the_remedy(monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(InputError, match=r"no such library.*pip install --force-reinstall espeakng-loader"):
        espeak.speak(espeak.script())
