import re
from dataclasses import replace

import pytest
import torch
from PIL import Image
from rich.console import Console

import gossamer_vision
from gossamer import InputError
from gossamer_vision import evaluate, latency, models
from gossamer_vision.classifier import Classifier, load
from gossamer_vision.data import scaled
from gossamer_vision.predict import main, predict
from gossamer_vision.train import Config, classifier, train

TINY = Config(width=4, stem=2, epochs=1, batch=100, method="static-random", sparsity=0.8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.gossamer"
    run = train(replace(TINY, save=path))
    for number in range(2):
        Image.fromarray(run.data.test.images[number, 0].numpy()).save(path.parent / f"{number}.png")
    return run, path


def test_loaded_network_gives_the_trained_one_s_probabilities(trained):
    run, path = trained
    images = run.data.test.images[:5]
    with torch.no_grad():
        expected = run.network(scaled(images, run.data.mean, run.data.std)).softmax(1)
    loaded = gossamer_vision.load(path)
    assert torch.allclose(loaded.probabilities(images), expected, atol=1e-5)
    assert loaded.classes == run.data.classes
    assert all(torch.equal(mask, run.masks[name]) for name, mask in loaded.masks.items()) and loaded.masks


def test_a_wired_network_comes_back_with_its_wiring(tmp_path):
    network = models.build("inception", (1, 16, 16), 2, width=8, density=0.25, seed=5).eval()
    architecture = {"name": "inception", "shape": [1, 16, 16], "classes": 2, "width": 8, "density": 0.25, "seed": 5}
    Classifier(network, architecture, ("a", "b"), (0.5,), (0.5,)).save(tmp_path / "m")
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(load(tmp_path / "m").network(x), network(x))


def test_command_prints_classes_and_goes_on_past_a_bad_picture(trained, capsys):
    _, path = trained
    (path.parent / "bad.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as exit_:
        main([str(path), *(str(path.parent / name) for name in ("0.png", "bad.png", "absent.png", "1.png"))])
    output = capsys.readouterr()
    assert exit_.value.code == 1 and "%" in output.out
    assert "bad.png" in output.err and "absent.png is no file" in output.err and "2 of 4 pictures" in output.err


def test_pictures_of_another_size_are_brought_to_the_network_s(trained, tmp_path):
    run, _ = trained
    Image.new("RGB", (50, 30), (255, 0, 0)).save(tmp_path / "a.jpg")
    found, problems = predict(classifier(run), (tmp_path / "a.jpg",))
    assert not problems and found[tmp_path / "a.jpg"].sum().item() == pytest.approx(1, abs=1e-5)


def test_names_are_printed_as_they_are(trained, tmp_path, capsys):
    run, path = trained
    odd = replace(load(path), classes=tuple(f"[b]{name}[/c]" for name in run.data.classes))
    odd.save(tmp_path / "odd.gossamer")
    picture = tmp_path / ("x" * 90) / "x[old].png"
    picture.parent.mkdir()
    Image.new("L", (16, 16)).save(picture)
    main([str(tmp_path / "odd.gossamer"), str(picture), "--top", "1"])
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert "".join(cells[0].strip() for cells in rows) == str(picture)
    assert "".join(cells[1].strip() for cells in rows) in odd.classes
    Console().print(evaluate.table(odd, replace(run.data, classes=odd.classes)))
    printed = capsys.readouterr().out
    assert all(name in printed for name in odd.classes)


def flip_last(path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b"something else"), "no file of a gossamer_vision network"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "network"),
        (flip_last, "damaged"),
    ],
)
def test_bad_files_are_named(trained, tmp_path, harm, message):
    path = tmp_path / "m.gossamer"
    path.write_bytes(trained[1].read_bytes())
    harm(path)
    with pytest.raises(InputError, match=message):
        load(path)


def test_images_that_do_not_fit_are_refused(trained):
    loaded = load(trained[1])
    with pytest.raises(InputError, match=r"\(2, 3, 16, 16\).*\(n, 1, 16, 16\)"):
        loaded.probabilities(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(InputError, match="float32"):
        loaded.probabilities(torch.zeros(2, 1, 16, 16))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MODEL"], "no IMAGE"),
        (["absent.gossamer", "a.png"], "absent.gossamer does not exist"),
        (["MODEL", "a.png", "--top", "0"], "--top is 0"),
        (["MODEL", "--onnx", "MODEL/x.onnx"], r"x.onnx cannot be written \((Not a directory|File exists)"),
    ],
)
def test_command_refuses_without_traceback(trained, capsys, words, message):
    pytest.importorskip("onnx")
    with pytest.raises(SystemExit) as exit_:
        main([word.replace("MODEL", str(trained[1])) for word in words])
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and re.search(message, error) and "Traceback" not in error


def test_onnx_has_an_open_batch_size(trained, tmp_path):
    onnx = pytest.importorskip("onnx")
    size = load(trained[1]).export_onnx(tmp_path / "m.onnx")
    assert size == (tmp_path / "m.onnx").stat().st_size
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"))


def test_evaluation_prints_every_class_and_corruption(trained, tmp_path, capsys):
    run, path = trained
    evaluate.main([str(path)])
    cells = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line]
    rows = {row[1].strip(): row[2:4] for row in cells}
    assert int(rows["all"][0]) == 500 == sum(int(rows[name][0]) for name in run.data.classes)
    right = evaluate.accuracy(evaluate.logits(run.network, run.data.test.images, run.data.scaled), run.data.test.labels)
    assert rows["all"][1].strip() == f"{right:.2%}" and {"all, noise", "calibration error"} <= rows.keys()
    for name in [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(8)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (16, 16)).save(tmp_path / name)
    with pytest.raises(SystemExit) as exit_:
        evaluate.main([str(path), "--data", "folder", "--data-dir", str(tmp_path)])
    assert exit_.value.code == 2 and "folder has cat, dog" in capsys.readouterr().err


def test_runtimes_are_timed_and_agree(trained, capsys):
    latency.main([str(trained[1]), "--batches", "2", "--rounds", "1", "--no-inductor"])
    header, _, row = [line.split("|")[1:-1] for line in capsys.readouterr().out.strip().splitlines()]
    cells = dict(zip((name.strip() for name in header), row, strict=True))
    assert {"PyTorch", "channels last", "compiled", "ratio"} <= cells.keys() and int(cells["batch"]) == 2
    assert all(float(cells[name]) >= 0 for name in ("PyTorch", "compiled", "ratio"))
