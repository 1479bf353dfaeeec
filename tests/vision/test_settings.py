from dataclasses import asdict, replace

import pytest
from PIL import Image

from gossamer_vision import data
from gossamer_vision.config import PRESETS, Config
from gossamer_vision.settings import settings
from gossamer_vision.sources import Part
from gossamer_vision.train import train


def digits(count: int):
    found = data.load("digits")
    return replace(found, train=Part(found.train.images[:count], found.train.labels[:count]))


def test_what_the_configuration_says_stands():
    config = Config(batch=7, epochs=3, width=5, sparsity=0.5)
    found = settings(config, digits(100))
    given = {name: value for name, value in asdict(found).items() if name != "reasons"}
    assert given == {name: getattr(config, name) for name in given} and not found.chosen


@pytest.mark.parametrize(
    ("count", "batch", "epochs", "shown"),
    [(42, 8, 300, 286), (420, 32, 116, 115), (1000, 64, 100, 96)],  # 1,500 steps of 5, 13 and 15 an epoch, rounded up
)
def test_steps_follow_the_number_of_images(count, batch, epochs, shown):
    found = settings(PRESETS["folder"], digits(count))
    assert (found.batch, found.epochs) == (batch, epochs)
    assert found.every == epochs * (count // batch) // 40 and found.stem == 1 and found.shift == 1
    assert f"each image {shown} times" in found.reasons["epochs"]
    assert found.chosen.keys() == found.reasons.keys() and {"batch", "sparsity", "width"} <= found.chosen.keys()


def test_one_given_option_leaves_the_others_to_be_chosen():
    found = settings(replace(PRESETS["folder"], batch=16), digits(420))
    assert (found.batch, found.learning_rate, found.epochs) == (16, 0.05, 58) and "batch" not in found.reasons


def test_a_folder_is_learned_by_one_command_without_options(tmp_path):
    for kind, colour in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
        (tmp_path / kind).mkdir()
        for number in range(12):
            Image.new("RGB", (18 + number % 3, 18), colour).save(tmp_path / kind / f"{number}.png")
    lines: list[str] = []
    small = replace(PRESETS["folder"], data_dir=tmp_path, width=8, epochs=60, every=3)
    run = train(small, lines.append)
    assert lines[0].endswith("to test") and run.sparsity == pytest.approx(0.9, abs=0.01)
    assert any(line.startswith("  --image-size 20: the median picture has 18 pixels") for line in lines)
    assert any(line.startswith("  --batch 8: an eighth of ") for line in lines)
    assert run.accuracy_held_out() == 1
