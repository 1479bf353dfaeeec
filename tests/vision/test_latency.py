import pytest
import torch

from gossamer_vision import latency, models
from gossamer_vision.classifier import Classifier
from gossamer_vision.latency import Options, main


@pytest.fixture
def saved(tmp_path):
    architecture = {"name": "resnet8", "shape": [1, 16, 16], "classes": 3, "width": 4}
    network = models.build("resnet8", (1, 16, 16), 3, width=4).eval()
    Classifier(network, architecture, ("a", "b", "c"), (0.4,), (0.2,)).save(tmp_path / "m.gossamer")
    return tmp_path / "m.gossamer"


def test_runtimes_are_timed_and_agree(saved, capsys):
    threads = torch.get_num_threads()
    main(Options((saved,), batches=(2,), rounds=1, inductor=False))
    header, _, row = [line.split("|")[1:-1] for line in capsys.readouterr().out.strip().splitlines()]
    cells = dict(zip((name.strip() for name in header), row, strict=True))
    assert {"PyTorch", "channels last", "compiled", "ratio"} <= cells.keys() and int(cells["batch"]) == 2
    assert all(float(cells[name]) >= 0 for name in ("PyTorch", "compiled", "ratio"))
    assert torch.get_num_threads() == threads


def test_one_image_is_timed_by_both(saved):
    network = models.build("resnet8", (1, 16, 16), 3, width=4)
    times = latency.milliseconds(network, torch.zeros(1, 1, 16, 16), {})
    assert times.keys() == {"eager", "compiled"} and min(times.values()) > 0
