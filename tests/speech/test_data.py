import numpy as np
import pytest
import soundfile
import torch

from gossamer import InputError
from gossamer_speech import data, features


def write(path, seconds=0.05, rate=8000, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)), rate)
    return path


@pytest.fixture(scope="module")
def fsdd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fsdd")
    for digit in range(10):
        for index in range(50):
            write(folder / f"{digit}_ann_{index}.wav", seed=50 * digit + index)
    return folder


@pytest.fixture
def words(tmp_path):
    for word in ("no", "yes"):
        for speaker in range(3):
            write(tmp_path / word / f"{speaker}_nohash_0.wav", seed=speaker)
    (tmp_path / "testing_list.txt").write_text("no/2_nohash_0.wav\nyes/2_nohash_0.wav\n")
    return tmp_path


def test_espeak_is_split_by_voice():
    found = data.load("espeak", snr=10.0)
    assert found.names == tuple(sorted(found.names)) and len(found.names) == 20
    assert not set(found.speakers[found.test]) & set(found.speakers[~found.test])
    assert np.bincount(found.labels[~found.test]).tolist() == [30] * 20
    assert found.frames.shape == (found.lengths.sum(), features.MELS)
    assert [len(word) for word in found.part(True)] == found.lengths[found.test].tolist()


def test_noise_changes_the_frames_and_their_name_but_is_the_same_on_every_call(words):
    clean, noisy, again = (data.load("folder", words, snr) for snr in (None, 5.0, 5.0))
    assert clean.digest != noisy.digest == again.digest
    assert not np.allclose(clean.frames, noisy.frames)
    assert np.array_equal(noisy.frames, again.frames)


def test_fsdd_has_its_own_split(fsdd):
    found = data.load("fsdd", fsdd)
    assert found.names == tuple("0123456789")
    assert found.test.sum() == 50
    assert data.digits(fsdd)[fsdd / "7_ann_4.wav"].test and not data.digits(fsdd)[fsdd / "7_ann_5.wav"].test


def test_fsdd_is_found_in_the_clone_too(fsdd, tmp_path):
    (tmp_path / "recordings").symlink_to(fsdd)
    assert len(data.digits(tmp_path)) == 500


def test_a_half_written_fsdd_is_refused(fsdd, tmp_path):
    for path in list(fsdd.iterdir())[:499]:
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(
        InputError, match=r"lacks 1 of the 500 recordings of 'ann', \d_ann_\d+.wav among them.*git clone"
    ):
        data.load("fsdd", tmp_path)


def test_a_foreign_name_among_the_digits_is_refused(tmp_path):
    write(tmp_path / "seven.wav")
    with pytest.raises(InputError, match=r"seven\.wav is not named \{digit\}_\{speaker\}_\{index\}\.wav"):
        data.load("fsdd", tmp_path)


@pytest.mark.parametrize("name", ["fsdd", "folder"])
def test_missing_and_empty_folders_are_named(name, tmp_path):
    with pytest.raises(InputError, match="name it with --data-dir"):
        data.load(name)
    with pytest.raises(InputError, match="nowhere does not exist"):
        data.load(name, tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"{tmp_path.name} holds no recordings"):
        data.load(name, tmp_path)


def test_the_list_of_test_recordings_is_followed(words):
    found = data.load("folder", words)
    assert found.names == ("no", "yes")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.speakers.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.test.tolist() == [False, False, True, False, False, True]


def test_without_a_list_speakers_are_on_one_side(words):
    (words / "testing_list.txt").unlink()
    for word in ("no", "yes"):
        for speaker in range(40):
            write(words / word / f"{speaker}_nohash_1.wav")
    sides = {}
    for recording in data.labelled(words).values():
        sides.setdefault(recording.speaker, set()).add(recording.test)
    assert all(len(side) == 1 for side in sides.values())
    assert 2 <= sum(side == {True} for side in sides.values()) <= 16


def test_background_noise_and_other_files_are_no_words(words):
    write(words / "_background_noise_" / "tap.wav")
    (words / "yes" / "notes.txt").write_text("recorded at home")
    assert len(data.labelled(words)) == 6


def test_a_word_without_test_recordings_is_named(words):
    (words / "testing_list.txt").write_text("no/2_nohash_0.wav")
    with pytest.raises(InputError, match=r"yes has 3 recordings to train on and 0 to test on"):
        data.load("folder", words)


def test_one_word_is_not_enough(tmp_path):
    write(tmp_path / "yes" / "a.wav")
    with pytest.raises(InputError, match="one word only, 'yes'"):
        data.load("folder", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not audio at all", b"RIFF\x24\x00\x00\x00WAVE"])
def test_a_file_that_is_not_audio_is_named(words, content):
    (words / "yes" / "1_nohash_0.wav").write_bytes(content)
    with pytest.raises(
        InputError, match=r"yes/1_nohash_0\.wav is (not audio|cut short).*Remove the file or fetch it again"
    ):
        data.load("folder", words)


def test_a_recording_that_is_cut_short_is_named(words):
    path = words / "yes" / "1_nohash_0.wav"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"1_nohash_0\.wav is cut short: it has 744 bytes"):
        data.load("folder", words)


def test_a_recording_without_sound_is_named(words):
    path = words / "yes" / "1_nohash_0.wav"
    soundfile.write(path, np.zeros(0), 8000)
    with pytest.raises(InputError, match=r"1_nohash_0\.wav holds no sound"):
        data.load("folder", words)
    soundfile.write(path, np.full(100, np.nan, np.float32), 8000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"1_nohash_0\.wav holds .*samples that are not numbers"):
        data.load("folder", words)


def test_audio_is_brought_to_one_channel_and_8_khz(tmp_path):
    time = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.flac", np.stack([tone, np.zeros_like(tone)], axis=1), 16_000)
    samples = data.decode(tmp_path / "a.flac")
    expected = torch.from_numpy(tone[::2] / 2).float()
    assert samples.shape == (8000,)
    assert (samples - expected)[100:-100].abs().max() < 0.01


def test_frames_are_computed_once(words, cache):
    first = data.load("folder", words)
    path = cache / "gossamer" / "speech" / f"folder-{first.digest}.npz"
    before = path.stat().st_mtime_ns
    second = data.load("folder", words)
    assert path.stat().st_mtime_ns == before
    assert np.array_equal(first.frames, second.frames)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:200] + b"?" + b[201:]])
def test_a_damaged_cache_is_made_anew(words, cache, damage):
    first = data.load("folder", words)
    path = cache / "gossamer" / "speech" / f"folder-{first.digest}.npz"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    second = data.load("folder", words)
    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(np.load(path)["frames"], first.frames)


def test_another_recording_is_another_name(words):
    before = data.load("folder", words).digest
    write(words / "yes" / "0_nohash_0.wav", seed=99)
    assert data.load("folder", words).digest != before


def test_a_cache_folder_that_cannot_be_written_to_is_done_without(words, tmp_path, monkeypatch):
    expected = data.load("folder", words).frames
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert np.array_equal(data.load("folder", words).frames, expected)
