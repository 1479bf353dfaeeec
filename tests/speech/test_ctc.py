from dataclasses import replace
from itertools import groupby, islice, product

import numpy as np
import pytest
import soundfile
import torch

import gossamer_speech
from gossamer import InputError, engine
from gossamer.nn import SparseAutoencoder, TopK
from gossamer_speech import ctc, data, encoders, evaluate, evaluate_sentences, export, letters, recognise, sentences
from gossamer_speech.config import Config
from gossamer_speech.patches import Features, Shape
from gossamer_speech.recogniser import Transcriber, save, untrained
from gossamer_speech.train import parts, run

ALPHABET = "\0 ab"


def path_of(symbols: str, confidence: float = 0.9) -> np.ndarray:
    """Probabilities whose best symbols, one a time, are these; "-" is the blank."""
    rest = (1 - confidence) / (len(ALPHABET) - 1)
    rows = np.full((len(symbols), len(ALPHABET)), rest, np.float32)
    for time, symbol in enumerate(symbols):
        rows[time, 0 if symbol == "-" else ALPHABET.index(symbol)] = confidence
    return rows


@pytest.mark.parametrize("beam", [1, 16])
@pytest.mark.parametrize(
    ("path", "text"), [("aab-b", "abb"), ("a--a", "aa"), ("-- a- -b ", "a b"), ("----", ""), ("ab  ba", "ab ba")]
)
def test_repeated_symbols_merge_and_blanks_go(path, text, beam):
    assert letters.decoded(path_of(path), ALPHABET, beam) == text


def test_a_beam_adds_the_paths_that_spell_the_same():
    time = np.array([0.4, 0.0, 0.3, 0.3], np.float32)  # blank, space, a, b: "a" sums to 0.33, "" to 0.16
    posteriors = np.stack([time, np.array([0.4, 0.0, 0.6, 0.0], np.float32)])
    assert letters.decoded(posteriors, ALPHABET, 16) == "a"
    tie = np.stack([np.array([0.55, 0.0, 0.45, 0.0], np.float32)] * 2)  # "": 0.30; "a": 0.70 by three paths
    assert letters.decoded(tie, ALPHABET, 1) == "" and letters.decoded(tie, ALPHABET, 16) == "a"


def test_words_are_spelt_and_symbols_sorted():
    assert [letters.spelt(name) for name in ("7", "Yes", "good bye")] == ["seven", "yes", "good_bye"]
    assert letters.symbols(["no", "1"]) == "\0 eno"


def confident(path: str, names: tuple[str, ...], confidence: float = 0.9) -> np.ndarray:
    """Probabilities whose best symbols are these, "-" the blank, for the letters of names."""
    symbols = letters.symbols(names)
    rows = np.full((len(path), len(symbols)), (1 - confidence) / (len(symbols) - 1), np.float32)
    rows[range(len(path)), [0 if letter == "-" else symbols.index(letter) for letter in path]] = confidence
    return rows


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("--zze-ro- -one--thre-e", "zero one three"),  # a space is missing
        ("thre-e  -oone-  seven- -", "three one seven"),
        ("thre-e one", "three one"),
        ("-----", ""),
        ("sv-en onr one- ", "seven one one"),
    ],
)
def test_sentences_are_read_as_the_likeliest_of_known_words(path, text):
    names = ("0", "1", "3", "7")
    assert letters.read(confident(path, names), letters.symbols(names), names) == text


def test_reading_is_the_best_of_all_paths():
    names, draw = ("ab", "b", "aa"), np.random.default_rng(0)
    symbols = letters.symbols(names)
    for _ in range(20):
        posteriors = draw.dirichlet(np.full(len(symbols), 0.5), 5).astype(np.float32)
        paths = {"": -np.inf}
        for path in product(range(len(symbols)), repeat=5):
            text = "".join(symbols[s] for s, _ in groupby(path)).replace("\0", "")
            if set(text.split(" ")) <= {*names, ""} and "  " not in text and not text.startswith(" "):
                logs = float(np.log(posteriors[range(5), path] + 1e-9).sum())
                paths[text.strip()] = max(paths.get(text.strip(), -np.inf), logs)
        assert letters.read(posteriors, symbols, names) == max(paths, key=lambda text: paths[text])


def test_errors_by_hand():
    word, letter = sentences.errors(["one two", "three"], ["one too", "three four"])
    assert word == pytest.approx(200 / 3) and letter == pytest.approx(100 * (1 + 5) / 12)


def test_sentences_say_each_word_once_in_one_voice(folder):
    words = data.load("folder", folder)
    which = words.speakers != 1
    made = sentences.joined(words, which, np.random.default_rng(3))
    said = sorted(word for sentence in made for word in sentence.text.split())
    assert said == sorted(words.names[label] for label in words.labels[which])
    assert {sentence.speaker for sentence in made} == {0, 2, 3}
    assert max(len(sentence.text.split()) for sentence in made) <= sentences.LONGEST
    longest = max(made, key=lambda sentence: len(sentence.text.split()))
    spoken = sum(len(words.word(i)) for i in range(len(words)) if words.speakers[i] == longest.speaker)
    assert len(longest.samples) < spoken + words.rate * 2


def test_sentences_are_of_whole_words_or_of_what_trims_leave(folder):
    words, which = data.load("folder", folder), np.arange(24) < 6
    whole, one, cut = (
        sentences.joined(words, which, np.random.default_rng(3), parts)
        for parts in (None, lambda word: [word], lambda word: [word[: len(word) // 2], word[: len(word) // 4]])
    )
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(whole, one, strict=True))
    spoken = sum(len(words.word(i)) for i in range(6))
    heard = sum(len(sentence.samples) for sentence in cut)
    assert spoken / 4 < heard < spoken / 2 + 12 * sentences.PAUSE[1] * words.rate


def test_batches_are_of_sentences_of_like_length():
    many = [sentences.Sentence("", n, np.zeros(n, np.float32)) for n in (37 * i % 128 for i in range(256))]
    found = list(islice(ctc.batches(iter(many), np.random.default_rng(0)), 2 * ctc.ALIKE))
    assert sorted(s.speaker for batch in found for s in batch) == sorted(s.speaker for s in many)
    assert all(len(batch) == ctc.BATCH for batch in found)
    assert all(max(s.speaker for s in b) - min(s.speaker for s in b) == ctc.BATCH - 1 for b in found)
    starts = [min(s.speaker for s in batch) for batch in found[: ctc.ALIKE]]
    assert starts != sorted(starts)


def test_synthetic_sentences_are_of_the_words(folder):
    pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
    made = sentences.synthetic(data.load("folder", folder), 1, 0)
    assert len(made) == 51 and {word for s in made for word in s.text.split()} == {"no", "yes", "stop"}
    assert all(2 <= len(s.text.split()) <= sentences.LONGEST and len(s.samples) > 2000 for s in made)


def test_padding_changes_no_utterance(folder):
    words = data.load("folder", folder)
    torch.manual_seed(0)
    frames = [torch.randn(t, 40).numpy() for t in (30, 41)]
    padded, times = ctc.batched(frames)
    assert padded.shape == (2, 41, 40) and times.tolist() == [15, 21] and not padded[0, 30:].any()
    assert words.names == ("no", "stop", "yes")


@pytest.fixture(scope="module")
def config(folder):
    return Config(
        data="folder",
        data_dir=folder,
        method="topk",
        classifier="ctc",
        codes=16,
        active=4,
        width=5,
        warps=1,
        epochs=10,
        batch=64,
        learning_rate=3e-3,
        levels=(),
        sparsity=0.5,
    )


def test_it_learns_to_spell_what_an_unheard_voice_says(config, folder):
    words = data.load("folder", folder)
    test = words.speakers == 1
    heard = evaluate.Heard(words, config, Shape.of(config), [test, ~test])
    fold = evaluate_sentences.fold(config, heard, test)
    assert fold.extra["character_error_rate"] < 40 and fold.accuracy.keys() == {"clean", "reverberation"}
    assert fold.accuracy["clean"] == pytest.approx(100 - fold.extra["word_error_rate"])
    assert fold.speakers == {"b": fold.accuracy["clean"]}
    assert fold.trained.masking is not None and 0.3 < fold.trained.masking.sparsity < 0.6


def test_a_transcriber_is_kept_loaded_and_used(config, tmp_path, tone, frequencies, cache, capsys):
    path = tmp_path / "sentences.gossamer"
    result = run(replace(config, epochs=1, warps=3, levels=(20.0,), save=path))
    assert result.value == pytest.approx(100 - result.extra["word_error_rate"]) and result.floor == 0
    assert set(result.extra["speakers"]) == set("abcd") and result.latency_ms
    assert set(result.extra["in_noise"]) == {"white 20 dB", "babble 20 dB", "reverberation"}
    loaded = gossamer_speech.load(path)
    assert isinstance(loaded, Transcriber) and loaded.names == ("no", "stop", "yes")
    assert sum(int((p == 0).sum()) for p in loaded.classifier.parameters()) > 10_000
    samples = np.concatenate([tone(*frequencies[word]) for word in ("no", "yes")])
    found = loaded.posteriors(samples)
    assert found.shape == (29, len("\0 enopsty")) and np.allclose(found.sum(1), 1, atol=1e-5)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    assert recognise.main(recognise.Options(path, (tmp_path / "a.wav",))) == 0
    told = capsys.readouterr().out.rstrip("\n").split("\t")
    assert told[0] == str(tmp_path / "a.wav") and set(told[1]) <= set(" enopsty?") and 0 < float(told[2]) <= 1
    kept = max((cache / "gossamer" / "speech").glob("*.engine"), key=lambda path: path.stat().st_mtime_ns)
    assert recognise.main(recognise.Options(path, (tmp_path / "a.wav",))) == 0
    assert capsys.readouterr().out.rstrip("\n").split("\t") == told and engine.load(kept).sizes


def test_a_transcriber_is_exported_and_compiled_at_any_length(tmp_path, config):
    names, shape = ("no", "stop", "yes"), Shape(width=5, warps=1)
    torch.manual_seed(0)
    body = Features(encoders.learned(SparseAutoencoder(5 * 16, 16, TopK(4))), shape)
    transcriber = Transcriber(body, untrained(body, names), shape, names)
    transcriber.train()(torch.randn(20, 60, 40))  # batch norms that do something
    transcriber.eval().requires_grad_(False)
    save(transcriber, tmp_path / "a.gossamer", config)
    sounds = [np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32) for n in (1, 300, 4000, 9001)]
    expected = [transcriber.posteriors(sound) for sound in sounds]
    assert export.main(export.Options(tmp_path / "a.gossamer", tmp_path / "a.engine")) == 0
    transcriber.engine = engine.load(tmp_path / "a.engine")
    for sound, wanted in zip(sounds, expected, strict=True):
        np.testing.assert_allclose(transcriber.posteriors(sound), wanted, atol=1e-5)
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert export.main(export.Options(tmp_path / "a.gossamer", tmp_path / "a.onnx")) == 0
    assert (tmp_path / "a.txt").read_text().split("\n") == ["", " ", *"enopsty", ""]
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for frames in (torch.randn(1, 3, 40), torch.randn(3, 48, 40), torch.randn(2, 131, 40)):
        (scores,) = session.run(None, {"frames": frames.numpy()})
        np.testing.assert_allclose(scores, transcriber(frames), atol=1e-5)


def test_what_ctc_cannot_read_is_refused():
    with pytest.raises(InputError, match="reads words itself and has no codes"):
        Config(method="temporal-topk", classifier="ctc")
    assert parts(Config(classifier="ctc")) == "weights Unstructured(), codes TopK(16) of 128"
