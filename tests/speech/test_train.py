import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import gossamer_speech
from gossamer import InputError, checkpoints, engine
from gossamer.results import plain
from gossamer_speech import benchmark, evaluate, export, extract, recognise
from gossamer_speech.config import PRESETS, Config
from gossamer_speech.train import run

TINY = Config(data="folder", codes=16, active=4, epochs=1, warps=1, batch=128)


@pytest.fixture(scope="module")
def config(folder):
    return replace(TINY, data_dir=folder)


@pytest.fixture(scope="module")
def model(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.gossamer"
    return run(replace(config, save=path)), path


def numbers(result):
    timed = {"train_seconds", "latency_ms", "commit"}
    return {name: value for name, value in vars(result).items() if name not in timed}


def test_the_grid_has_dense_first_and_the_smoke_test_is_first():
    grid = benchmark.grid(benchmark.PRESETS["quick"])
    assert grid[0].method == "dense" and {c.seed for c in grid} == {1, 2, 3}
    assert next(iter(PRESETS)) == "quick"
    assert all((Path(gossamer_speech.__file__).parent / f"{name}.py").is_file() for name in benchmark.COMMANDS)


def test_a_run_is_the_same_the_second_time_and_says_what_it_knows(config):
    lines: list[str] = []
    first, second = run(config, lines.append), benchmark.run(config)
    assert numbers(first) == numbers(second)
    assert first.value > 80 and first.floor == pytest.approx(100 / 3)
    assert first.config == plain(config) and first.config["data_dir"] == config.data_dir.name
    assert first.latency_ms and "24 words, 3 different ones, 4 speakers (guessed {label}/{speaker}_{n}" in lines[0]
    assert first.extra["in_noise"].keys() == {
        *(f"{kind} {level} dB" for kind in ("white", "babble") for level in (10, 0)),
        "reverberation",
    }
    assert set(first.extra["speakers"]) == set("abcd") and first.extra["left_out"] == 0
    assert first.extra["bits_a_second"] > 0
    assert 1 / 3 <= first.extra["word_purity"] <= 1 and 1 / 3 <= first.extra["voice_purity"] <= 1
    json.dumps(first.extra, allow_nan=False)


@pytest.mark.parametrize("method", ["temporal", "temporal-topk", "random-topk", "rigl", "stacked", "k-means", "mfcc"])
def test_what_was_trained_is_loaded_again(config, method, tmp_path, tone, frequencies):
    path = tmp_path / "model.gossamer"
    run(replace(config, method=method, save=path))
    recogniser = gossamer_speech.load(path)
    sounds = [tone(*pair, seed=77) for pair in frequencies.values()]
    scores = recogniser.probabilities(sounds)
    assert scores.shape == (3, 3) and np.allclose(scores.sum(1), 1, atol=1e-5)
    if method != "temporal":  # one epoch is too few for it
        assert [recogniser.names[i] for i in scores.argmax(1)] == list(frequencies)


def test_a_stopped_run_goes_on(config, tmp_path):
    path = tmp_path / "run.checkpoint"
    whole = run(replace(config, checkpoint=path))
    state = checkpoints.load(path)
    checkpoints.save(path, config=state["config"], done=state["done"][:2])
    lines: list[str] = []
    resumed = run(replace(config, checkpoint=path), lines.append)
    assert numbers(resumed) == numbers(whole)
    assert [line[:6] for line in lines if line.startswith("fold")] == ["fold 3", "fold 4"]
    with pytest.raises(InputError, match="codes"):
        run(replace(config, codes=17, checkpoint=path))


def test_reading_by_neighbours_and_in_noise(config):
    result = run(replace(config, classifier="knn", noise="reverberation"))
    assert result.value > 60 and result.extra["in_noise"] == {}
    with pytest.raises(InputError, match="which keeps every training word"):
        run(replace(config, classifier="knn", save=Path("model.gossamer")))


def test_recognise_says_words_and_names_what_it_cannot_use(model, tmp_path, capsys, tone, frequencies):
    _, path = model
    soundfile.write(tmp_path / "a.wav", tone(*frequencies["yes"], seed=5, rate=16_000), 16_000)
    (tmp_path / "b.wav").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no recordings are named"):
        recognise.main(recognise.Options(path, ()))
    status = recognise.main(recognise.Options(path, (tmp_path / "a.wav", tmp_path / "b.wav")))
    told = capsys.readouterr()
    assert status == 1 and told.out.startswith(f"{tmp_path / 'a.wav'}\tyes\t")
    assert "b.wav is not audio" in told.err and told.out.count("\n") == 1


def test_the_engine_is_compiled_once_and_kept(model, tmp_path, tone, frequencies, cache, capsys):
    recogniser, kept = gossamer_speech.load(model[1]), tmp_path / "kept" / "words.engine"
    sounds = [tone(*pair, seed=3) for pair in frequencies.values()]
    expected = recogniser.probabilities(sounds)
    recogniser.compile(kept)
    assert kept.is_file() and np.allclose(recogniser.probabilities(sounds), expected, atol=1e-4)
    again = gossamer_speech.load(model[1])
    again.compile(kept)
    assert again.engine is not None and np.allclose(again.probabilities(sounds), expected, atol=1e-4)
    kept.write_bytes(kept.read_bytes()[:-9])
    again.compile(kept)  # what is damaged is made anew
    assert engine.load(kept)
    soundfile.write(tmp_path / "a.wav", sounds[0], 8000)
    recognise.main(recognise.Options(model[1], (tmp_path / "a.wav",)))
    assert list((cache / "gossamer" / "speech").glob("*.engine")) and capsys.readouterr().out


def test_what_stands_beside_an_export_is_not_overwritten(model, tmp_path, folder, capsys):
    (tmp_path / "words.txt").write_text("my notes")
    for command, options in (
        (export, export.Options(model[1], tmp_path / "words.engine")),
        (extract, extract.Options(folder, tmp_path / "words.npz")),
    ):
        with pytest.raises(InputError, match=r"words\.txt exists, and would be overwritten"):
            command.main(options)
    assert (tmp_path / "words.txt").read_text() == "my notes"
    (tmp_path / "words.txt").unlink()
    for _ in range(2):  # one's own is
        assert export.main(export.Options(model[1], tmp_path / "words.engine")) == 0
    capsys.readouterr()


def test_words_of_a_stream_end_at_pauses(model, tone, frequencies):
    recogniser = gossamer_speech.load(model[1])
    quiet = 0.001 * np.random.default_rng(0).standard_normal(4000)
    sounds = [tone(*frequencies[word]) for word in ("no", "stop")]
    raw = np.concatenate([quiet, sounds[0], quiet, sounds[1], quiet])

    class Source:
        def __init__(self) -> None:
            self.left = (raw * 32767).astype("<i2").tobytes() + b"x"  # half a sample

        def read(self, count: int) -> bytes:
            part, self.left = self.left[:count], self.left[count:]
            return part

    found = list(recognise.words(Source(), 8000, 0.2))  # pyright: ignore[reportArgumentType]
    assert [recognise.answer(recogniser, sound)[0] for sound in found] == ["no", "stop"]


@pytest.mark.parametrize(
    ("method", "levels"),
    [("topk", 0), ("topk", 2), ("random-relu", 0), ("mfcc", 0), ("temporal", 0), ("temporal-topk", 0)],
)
def test_a_recogniser_is_compiled_and_exported(config, method, levels, tmp_path, capsys, tone, frequencies):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    path = tmp_path / "model.gossamer"
    run(replace(config, method=method, quantise=levels, warps=3, save=path))
    recogniser = gossamer_speech.load(path)
    sounds = [tone(*pair, seed=7) for pair in frequencies.values()]
    images, expected = recogniser.shape.images(sounds), recogniser.probabilities(sounds)
    scores = recogniser(images).numpy()
    recogniser.compile()
    np.testing.assert_allclose(recogniser.probabilities(sounds), expected, atol=1e-4)
    for name in ("words.onnx", "words.engine"):
        assert export.main(export.Options(path, tmp_path / name)) == 0
    session = onnxruntime.InferenceSession(tmp_path / "words.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    np.testing.assert_allclose(found, scores, atol=1e-3)
    np.testing.assert_allclose(engine.load(tmp_path / "words.engine")(images.numpy()), scores, atol=1e-3)
    assert (tmp_path / "words.txt").read_text().split() == list(recogniser.names)
    assert "3 words" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"must end in \.onnx or \.engine"):
        export.main(export.Options(path, tmp_path / "words.tflite"))


def test_a_foreign_file_is_no_recogniser(tmp_path):
    import gossamer as gs

    gs.save(torch.nn.Linear(2, 2), tmp_path / "other.gossamer")
    with pytest.raises(InputError, match="is no recogniser of speech"):
        gossamer_speech.load(tmp_path / "other.gossamer")


def test_extract_writes_codes_and_goes_on_after_a_stop(folder, tmp_path, capsys, monkeypatch):
    from scipy import sparse

    options = extract.Options(folder, tmp_path / "codes.npz", codes=20, active=3, every=10)
    assert extract.main(options) == 0
    whole, names = sparse.load_npz(tmp_path / "codes.npz"), (tmp_path / "codes.txt").read_text().split()
    assert whole.shape == (24, 8 * 20) and len(names) == 24 and not (tmp_path / "codes.parts").exists()
    write, calls = extract._write, []

    def stops(part, features, paths):
        calls.append(part.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(part, features, paths)

    monkeypatch.setattr(extract, "_write", stops)
    again = replace(options, out=tmp_path / "again.npz")
    with pytest.raises(KeyboardInterrupt):
        extract.main(again)
    assert extract.main(again) == 0
    assert calls == ["000000000", "000000010", "000000010", "000000020"]
    assert (sparse.load_npz(tmp_path / "again.npz") != whole).nnz == 0
    capsys.readouterr()


def test_extract_names_bad_values_and_leaves_nothing_where_nothing_can_be_learned(folder, tmp_path):
    for wrong, message in (
        ({"every": 0}, "every is 0"),
        ({"learn_from": 0}, "learn_from is 0"),
        ({"pool": "frames"}, "pool"),
    ):
        with pytest.raises(InputError, match=message):
            extract.main(replace(extract.Options(folder, tmp_path / "codes.npz"), **wrong))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "word.wav").write_text("no audio")
    options = extract.Options(tmp_path / "new", tmp_path / "codes.npz", codes=20, active=3)
    with pytest.raises(InputError, match=r"can be learned from: .*word\.wav is not audio"):
        extract.main(options)
    soundfile.write(tmp_path / "new" / "constant.wav", np.full(8000, 0.3), 8000)
    shutil.copy(folder / "no" / "a_0.wav", tmp_path / "new")  # a file that can be used, and the same command
    assert extract.main(options) == 1 and len((tmp_path / "codes.txt").read_text().split()) == 1


def test_purity_and_bits_by_hand():
    codes = torch.tensor([[1.0, 1.0], [3.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert evaluate.purity(codes, [0, 0, 1, 1]).tolist() == [1.0, 0.5]
    halves = np.array([[1.0, 0.0]] * 512 + [[0.0, 0.0]] * 512)
    assert evaluate.bits(halves) == pytest.approx(1 + 0.5 * 10 / 1024)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "top-k"}, r"method is 'top-k' \(did you mean 'topk'\?\)"),
        ({"data": "fsd"}, r"data is 'fsd'"),
        ({"sparsity": 1.0}, r"sparsity is 1\.0; it must be in \[0, 1\)"),
        ({"codes": 0}, r"codes is 0; it must be at least 1"),
        ({"seed": -1}, r"seed is -1"),
        ({"learning_rate": float("nan")}, r"learning_rate is nan"),
        ({"learning_rate": 1e6}, r"learning_rate is 1000000\.0"),
        ({"snr": float("inf")}, r"snr is inf"),
        ({"quantise": 1}, r"quantise is 1; give 2 levels or more"),
        ({"width": 4}, r"width is 4; it must be odd"),
        ({"synthetic": 1}, r"synthetic is 1, but the data set 'espeak' has the same voices"),
        ({"data_dir": Path("recordings")}, r"data_dir is recordings, but .*'espeak'.*'fsdd' or 'folder'"),
    ],
)
def test_bad_values_are_named_with_the_remedy(wrong, message):
    with pytest.raises(InputError, match=message):
        Config(**wrong)


@pytest.mark.skipif(
    not (Path(os.environ.get("GOSSAMER_DATA", "")) / "fsdd").is_dir(),
    reason="GOSSAMER_DATA names no folder with fsdd in it",
)
def test_real_digits_of_unheard_speakers_are_recognised():
    folder = Path(os.environ["GOSSAMER_DATA"], "fsdd")
    result = run(Config(data="fsdd", method="random-relu", codes=32, warps=1, data_dir=folder))
    assert result.extra["words"] == 3000 and result.floor == 10 and len(result.extra["speakers"]) == 6
    assert result.value > 75
