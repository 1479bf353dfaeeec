from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from gossamer import InputError
from gossamer_vision import evaluate, metrics
from gossamer_vision.config import Config
from gossamer_vision.evaluate import Options, main
from gossamer_vision.train import classifier, train

TINY = Config(width=4, stem=2, epochs=1, batch=100, method="static-random", sparsity=0.8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.gossamer"
    return train(replace(TINY, save=path)), path


def test_evaluation_prints_every_class_and_how_strong_corruptions_are(trained, capsys):
    run, path = trained
    main(Options(path))
    cells = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line]
    rows = {row[1].strip(): row[2:4] for row in cells}
    assert int(rows["all"][0]) == 500 == sum(int(rows[name][0]) for name in run.data.classes)
    right = metrics.accuracy(metrics.logits(run.network, run.data.test.images, run.data.scaled), run.data.test.labels)
    assert rows["all"][1].strip() == f"{right:.2%}" and "calibration error" in rows
    assert "all, blur (Gaussian, deviation 6% of the side)" in rows and "all, contrast (lowered by 65%)" in rows


def test_names_are_printed_as_they_are(trained, capsys):
    run, _ = trained
    names = tuple(f"[b]{name}[/c]" for name in run.data.classes)
    Console().print(evaluate.table(replace(classifier(run), classes=names), replace(run.data, classes=names)))
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)


def test_the_data_of_the_training_are_found_again_and_others_refused(trained, tmp_path):
    run, _ = trained
    for name in [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(8)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (20, 16)).save(tmp_path / name)
    made = classifier(run)
    assert evaluate.data_of(made, None, None).name == "digits"
    with pytest.raises(InputError, match="folder has cat, dog"):
        evaluate.data_of(made, "folder", tmp_path)
    own = replace(made, classes=("cat", "dog"), trained={"data": "folder", "data_dir": str(tmp_path)}, fit="pad")
    found = evaluate.data_of(own, None, None)
    assert found.name == "folder" and found.shape == (1, 16, 16) and found.frame.fit == "pad"
