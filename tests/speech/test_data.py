import shutil

import numpy as np
import pytest
import soundfile

from gossamer import InputError
from gossamer_speech import data, reading


@pytest.fixture
def words(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "words")


def test_espeak_is_split_by_voice():
    found = data.load("espeak")
    assert found.names == tuple(sorted(found.names)) and len(found.names) == 20
    assert found.official is not None
    assert not set(found.speakers[found.official]) & set(found.speakers[~found.official])
    assert np.bincount(found.labels[~found.official]).tolist() == [30] * 20
    assert all(np.abs(found.word(i)).max() > 0.99 for i in range(0, len(found), 100))


def test_a_folder_of_named_speakers_is_split_by_speaker(words):
    found = data.load("folder", words)
    assert (found.names, found.speaker_names, found.caveat) == (("no", "stop", "yes"), tuple("abcd"), "")
    folds = reading.folds(found.speakers)
    assert len(folds) == 4 and np.sum(folds, 0).tolist() == [1] * 24
    for fold in folds:
        assert len(set(found.speakers[fold])) == 1


def test_what_cannot_be_used_is_left_out_and_named(words):
    soundfile.write(words / "yes" / "a_2.wav", np.zeros(8000), 8000)
    (words / "no" / "b_2.wav").write_bytes(b"nothing")
    found = data.load("folder", words)
    assert len(found) == 24 and len(found.left_out) == 2
    assert "b_2.wav is not audio" in found.left_out[0] and "a_2.wav is silent" in found.left_out[1]


def test_a_folder_of_silence_is_refused(tmp_path):
    for name in ("yes/a_1", "yes/b_1", "no/a_1", "no/b_1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(8000), 8000)
    with pytest.raises(InputError, match=r"nothing in .* can be used: .* is silent"):
        data.load("folder", tmp_path)


def test_samples_are_read_once_and_mapped(words, cache):
    first = data.load("folder", words)
    assert isinstance(first.samples, np.memmap)
    path = next(p for p in (cache / "gossamer" / "speech").iterdir() if p.name.startswith("folder"))
    before = max(p.stat().st_mtime_ns for p in (cache / "gossamer" / "speech").glob("folder*/*"))
    assert data.load("folder", words).digest == first.digest
    assert max(p.stat().st_mtime_ns for p in (cache / "gossamer" / "speech").glob("folder*/*")) == before
    assert path.is_dir()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 4 * 2], lambda b: b"", lambda b: b[:200] + b"?" + b[201:]])
def test_a_damaged_cache_is_made_anew(words, cache, damage):
    first = data.load("folder", words)
    digest, samples = first.digest, np.array(first.samples)
    for path in (cache / "gossamer" / "speech").glob("folder*/samples.int16"):
        path.write_bytes(damage(path.read_bytes()))
    again = data.load("folder", words)
    assert again.digest == digest and np.array_equal(again.samples, samples)


def test_another_recording_is_another_digest(words):
    before = data.load("folder", words).digest
    soundfile.write(words / "yes" / "a_0.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 3000), 8000)
    assert data.load("folder", words).digest != before


def test_a_cache_that_cannot_be_written_to_is_done_without(words, tmp_path, monkeypatch):
    expected = np.array(data.load("folder", words).samples)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert np.array_equal(data.load("folder", words).samples, expected)


def test_a_data_set_without_its_folder_says_what_to_name():
    with pytest.raises(InputError, match="name it with --data-dir"):
        data.load("fsdd")
