import csv
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from gossamer import InputError
from gossamer_vision.classifier import load
from gossamer_vision.config import Config
from gossamer_vision.predict import Options, main, pictures_of, predict
from gossamer_vision.train import classifier, train

TINY = Config(width=4, stem=2, epochs=1, batch=100, method="static-random", sparsity=0.8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.gossamer"
    run = train(replace(TINY, save=path))
    for number in range(3):
        Image.fromarray(run.data.test.images[number, 0].numpy()).save(path.parent / f"{number}.png")
    return run, path


def test_command_prints_classes_and_goes_on_past_a_bad_picture(trained, capsys):
    _, path = trained
    (path.parent / "bad.png").write_bytes(b"no picture")
    names = ("0.png", "bad.png", "absent.png", "1.png")
    assert main(Options(path, tuple(path.parent / name for name in names))) == 1
    output = capsys.readouterr()
    assert "%" in output.out
    assert "bad.png" in output.err and "absent.png is no file" in output.err and "2 of 4 pictures" in output.err
    (path.parent / "bad.png").unlink()


def test_pictures_of_another_size_are_brought_to_the_network_s(trained, tmp_path):
    run, _ = trained
    Image.new("RGB", (50, 30), (255, 0, 0)).save(tmp_path / "a.jpg")
    found, problems = predict(classifier(run), (tmp_path / "a.jpg",))
    assert not problems and found[tmp_path / "a.jpg"].sum().item() == pytest.approx(1, abs=1e-5)


def test_a_folder_is_read_whole_and_written_as_csv_and_json(trained, tmp_path, capsys):
    run, path = trained
    (path.parent / "notes.txt").write_text("no picture by its name")
    expected = load(path).probabilities(run.data.test.images[:3])
    names = [run.data.classes[i] for i in expected.argmax(1)]
    for kind in ("csv", "json"):
        assert main(Options(path, (path.parent,), to=tmp_path / f"found.{kind}")) == 0
    assert "found.csv: 3 pictures" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == names and rows[1]["picture"].endswith("1.png")
    objects = json.loads((tmp_path / "found.json").read_text())
    assert [o["class"] for o in objects] == names
    values = torch.tensor([[o["probabilities"][name] for name in run.data.classes] for o in objects])
    assert torch.allclose(values, expected, atol=1e-5)
    assert torch.allclose(
        torch.tensor([float(row[names[0]]) for row in rows]), values[:, run.data.classes.index(names[0])]
    )


def test_a_picture_named_twice_is_looked_at_once(trained):
    _, path = trained
    assert pictures_of((path.parent, path.parent / "0.png")) == [path.parent / f"{n}.png" for n in range(3)]


def test_names_are_printed_as_they_are(trained, tmp_path, capsys):
    run, path = trained
    odd = replace(load(path), classes=tuple(f"[b]{name}[/c]" for name in run.data.classes))
    odd.save(tmp_path / "odd.gossamer")
    picture = tmp_path / ("x" * 90) / "x[old].png"
    picture.parent.mkdir()
    Image.new("L", (16, 16)).save(picture)
    main(Options(tmp_path / "odd.gossamer", (picture,), top=1))
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert "".join(cells[0].strip() for cells in rows) == str(picture)
    assert "".join(cells[1].strip() for cells in rows) in odd.classes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "no PICTURE"),
        ({"model": "absent.gossamer", "images": "a.png"}, r"absent\.gossamer does not exist"),
        ({"images": "a.png", "top": 0}, "top is 0"),
        ({"images": "a.png"}, "a.png is no file"),
        ({"images": "empty"}, "holds no pictures"),
        ({"images": "0.png", "to": "found.txt"}, r"found\.txt; its name must end with .csv or .json"),
        ({"onnx": "model.gossamer/x.onnx"}, r"x.onnx cannot be written \((Not a directory|File exists)"),
    ],
)
def test_what_cannot_be_done_is_refused(trained, words, message):
    pytest.importorskip("onnx")
    home = trained[1].parent
    (home / "empty").mkdir(exist_ok=True)
    named = {name: home / value if isinstance(value, str) else value for name, value in words.items()}
    images = (named.pop("images"),) if "images" in named else ()
    with pytest.raises(InputError, match=message):
        main(Options(**{"model": trained[1], "images": images, **named}))
