import numpy as np
import pytest
import soundfile

from gossamer_speech import audio
from gossamer_speech.audio import UnusableError


def noise(seconds, rate=8000, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def test_audio_is_brought_to_one_channel_and_one_rate(tmp_path):
    time = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.flac", np.stack([tone, np.zeros_like(tone)], axis=1), 16_000, subtype="PCM_24")
    samples = audio.read(tmp_path / "a.flac", 8000)
    assert len(samples) == 8000
    assert np.abs(samples - tone[::2] / 2)[100:-100].max() < 0.01


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_every_format_is_read(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", noise(0.5), 16_000)
    assert 1500 < len(audio.read(tmp_path / f"a.{suffix}", 8000)) < 3000


def test_cuts_do_not_matter_to_resampling():
    samples = noise(1.0, 44_101)
    whole, parts = (
        np.concatenate(list(audio.resampled(np.split(samples, cuts), 44_101, 8000))) for cuts in ([], [1, 77, 20_000])
    )
    assert len(whole) == 8000 and np.array_equal(whole, parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"not audio at all", "is not audio"), (b"RIFF\x24\x00\x00\x00WAVE", "is cut short")],
)
def test_a_file_that_is_not_audio_is_named(tmp_path, content, message):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(UnusableError, match=rf"a\.wav {message}"):
        audio.read(tmp_path / "a.wav", 8000)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(8000), "silent"),
        (np.full(8000, 0.3), "silent"),
        (np.ones(1), r"too short \(0 ms\)"),
        (np.zeros(0), "too short"),
        (np.clip(10 * np.sin(np.arange(8000)), -1, 1), "clipped"),
    ],
)
def test_useless_recordings_are_named(tmp_path, samples, reason):
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(UnusableError, match=rf"a\.wav is {reason}"):
        audio.read(tmp_path / "a.wav", 8000)


def test_numbers_that_are_none_and_hours_are_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(1000, np.nan, np.float32), 8000, subtype="FLOAT")
    with pytest.raises(UnusableError, match="samples that are not numbers"):
        audio.read(tmp_path / "a.wav", 8000)
    soundfile.write(tmp_path / "a.wav", noise(2.0), 8000)
    with pytest.raises(UnusableError, match="longer than 1 s"):
        audio.read(tmp_path / "a.wav", 8000, longest=1.0)
    assert audio.fault(noise(0.5), 8000) == ""


def test_silence_is_trimmed_but_for_a_margin():
    word = np.concatenate([np.zeros(4000), noise(0.3), np.zeros(2000)]).astype(np.float32)
    assert len(audio.trimmed(word, 8000)) == 2400 + 2 * 240
    assert len(audio.trimmed(np.zeros(5000, np.float32), 8000)) == 5000


def test_a_peak_becomes_full_scale():
    assert audio.normalised(np.array([0.0, -0.25, 0.125], np.float32)).tolist() == [0, -32767, 16384]


def test_a_file_is_cut_at_its_pauses(tmp_path):
    silence = np.zeros(1600, np.float32)
    soundfile.write(tmp_path / "a.wav", np.concatenate([noise(0.2), silence, noise(0.1), silence, noise(0.2)]), 8000)
    spans = audio.pauses(tmp_path / "a.wav", 3)
    assert spans is not None
    assert [stop - start for start, stop in spans] == pytest.approx([2400, 2400, 2400], abs=80)
    assert audio.pauses(tmp_path / "a.wav", 4) is None
