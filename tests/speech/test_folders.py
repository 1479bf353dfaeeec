import pytest

from gossamer import InputError
from gossamer_speech import folders


def files(home, *names):
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return home


def told(found):
    return {(r.path.name, r.label, r.speaker, r.part) for r in found.recordings}


def test_a_stated_pattern_tells_label_and_speaker(tmp_path):
    files(tmp_path, "yes_ann_1.wav", "no_bob_x2.mp3", "notes.wav", "readme.txt")
    found = folders.find("folder", tmp_path, "{label}_{speaker}_{n}")
    assert told(found) == {("yes_ann_1.wav", "yes", "ann", ""), ("no_bob_x2.mp3", "no", "bob", "")}
    assert len(found.left_out) == 1 and found.left_out[0].endswith("notes.wav is not named {label}_{speaker}_{n}")
    with pytest.raises(InputError, match=r"it must hold \{label\}"):
        folders.find("folder", tmp_path, "{speaker}_{n}")
    with pytest.raises(InputError, match="matches none of the 3 files"):
        folders.find("folder", tmp_path, "{label}/{speaker}/{n}")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{label}/{speaker}_nohash_{n}", "{word}/{who}_nohash_{n}.wav"),
        ("{label}/{speaker}_{n}", "{word}/{who}_{n}.wav"),
        ("{label}_{speaker}_{n}", "{word}_{who}_{n}.flac"),
        ("{label}/{speaker}/{n}", "{word}/{who}/{n}.ogg"),
    ],
)
def test_a_pattern_is_guessed_and_said(tmp_path, pattern, name):
    for word in ("yes", "no"):
        for who in ("ann", "bob", "eve"):
            files(tmp_path, name.format(word=word, who=who, n=12))
    found = folders.find("folder", tmp_path)
    assert f"guessed {pattern}; if that is wrong, say --speaker" in found.how and not found.caveat
    assert {(r.label, r.speaker) for r in found.recordings} == {
        (w, s) for w in ("yes", "no") for s in ("ann", "bob", "eve")
    }


def test_unknown_speakers_are_a_caveat(tmp_path):
    files(tmp_path, "yes/take1.wav", "yes/take2.wav", "no/other.wav", "_noise_/hum.wav")
    found = folders.find("folder", tmp_path)
    assert found.caveat == "speakers unknown: may be optimistic"
    assert [r.label for r in found.recordings] == ["no", "yes", "yes"]
    assert len({r.speaker for r in found.recordings}) == 3
    with pytest.raises(InputError, match=r"flat\.wav, of which label and speaker can't be told"):
        folders.find("folder", files(tmp_path, "flat.wav"))


def test_fsdd_is_whole_or_refused(tmp_path):
    names = [f"recordings/{d}_ann_{i}.wav" for d in range(10) for i in range(50)]
    found = folders.find("fsdd", files(tmp_path, *names))
    assert len(found.recordings) == 500 and sum(r.part == "test" for r in found.recordings) == 50
    (tmp_path / names[0]).unlink()
    with pytest.raises(InputError, match=r"lacks 1 of the 500 recordings of 'ann', 0_ann_0\.wav among them.*git clone"):
        folders.find("fsdd", tmp_path)
    with pytest.raises(InputError, match=r"seven\.wav is not named"):
        folders.find("fsdd", files(tmp_path, "recordings/seven.wav"))


def test_speech_commands_follow_their_list(tmp_path):
    files(tmp_path, "yes/a_nohash_0.wav", "no/b_nohash_1.wav", "_background_noise_/hum.wav")
    (tmp_path / "testing_list.txt").write_text("no/b_nohash_1.wav\n")
    found = folders.find("speech-commands", tmp_path)
    assert told(found) == {("a_nohash_0.wav", "yes", "a", "train"), ("b_nohash_1.wav", "no", "b", "test")}
    (tmp_path / "testing_list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"testing_list\.txt is no text"):
        folders.find("speech-commands", tmp_path)


def test_timit_has_words_in_its_sentences(tmp_path):
    files(tmp_path, "TRAIN/DR1/FCJF0/SA1.WAV", "TEST/DR2/MABC0/SA2.WAV")
    (tmp_path / "TRAIN/DR1/FCJF0/SA1.WRD").write_text("0 800 she\n800 1600 had\n")
    (tmp_path / "TEST/DR2/MABC0/SA2.WRD").write_text("10 90 had\n")
    found = folders.find("timit", tmp_path).recordings
    assert [(r.label, r.speaker, r.part, r.start, r.stop) for r in found] == [
        ("had", "MABC0", "test", 10, 90),
        ("she", "FCJF0", "train", 0, 800),
        ("had", "FCJF0", "train", 800, 1600),
    ]
    (tmp_path / "TEST/DR2/MABC0/SA2.WRD").write_text("nonsense\n")
    with pytest.raises(InputError, match="start stop word"):
        folders.find("timit", tmp_path)


def test_librispeech_knows_speakers_alone(tmp_path):
    found = folders.find("librispeech", files(tmp_path, "19/198/19-198-0001.flac", "26/495/26-495-0000.flac"))
    assert [(r.speaker, r.label) for r in found.recordings] == [("19", ""), ("26", "")]


@pytest.mark.parametrize("data", folders.LAYOUTS)
def test_missing_and_empty_folders_are_named(tmp_path, data):
    with pytest.raises(InputError, match="nowhere does not exist"):
        folders.find(data, tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no recordings"):
        folders.find(data, tmp_path)
