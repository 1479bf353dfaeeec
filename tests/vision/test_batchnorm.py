import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gossamer.results import defaults, file_name, plain
from gossamer_vision.classifier import load
from gossamer_vision.config import Config
from gossamer_vision.train import train


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch has no gloo")
def test_two_processes_train_to_the_numbers_of_one(tmp_path):
    options = {"width": 4, "stem": 2, "epochs": 1, "batch": 100, "every": 3, "method": "rigl", "sparsity": 0.8}
    alone = train(Config(save=tmp_path / "one.gossamer", **options))
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*launch, "-m", "gossamer_vision.train", "quick", *words, "--save", "two.gossamer"]
    command += ["--learning-rate", "0.1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = load(tmp_path / "one.gossamer"), load(tmp_path / "two.gossamer")
    for name, value in one.network.state_dict().items():
        assert torch.allclose(two.network.state_dict()[name].float(), value.float(), atol=2e-3), name
    (result,) = (json.loads(path.read_text()) for path in Path(tmp_path, "results").rglob("*.json"))
    assert result["config"]["processes"] == 2
    assert result["extra"]["held_out"] == pytest.approx(alone.accuracy_held_out(), abs=0.01)


def test_the_number_of_processes_is_part_of_a_result_s_name(monkeypatch):
    alone = file_name(plain(Config()), defaults(Config))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Config().processes == 2
    assert file_name(plain(Config()), defaults(Config)) != alone
