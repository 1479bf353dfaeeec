import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import gossamer as gs
from gossamer import checkpoints
from gossamer.nn.linear import SparseLinear

STEPS = 10
METHODS = {
    "set": lambda m, g: gs.SET(m, every=2, until=99, generator=g),
    "snfs": lambda m, g: gs.SNFS(m, every=3, until=99),
    "granet": lambda m, g: gs.GraNet(m, 0.9, every=2, until=9),
    "rigl": lambda m, g: gs.RigL(m, every=2, until=99),
}


def train(name, path, die_at=None):
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    data, grow = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(0.1), nn.Linear(12, 4))
    if name == "rigl":
        model[0] = SparseLinear.from_dense(model[0], torch.rand(12, 6) < 0.4)
    masking = gs.sparsify(model, 0.5, score="random", generator=grow)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    masking.attach(optimizer)
    method = METHODS[name](masking, grow)
    parts = {"model": model, "optimizer": optimizer, "masking": masking, "method": method}
    first = 0
    if path.exists():
        state = checkpoints.load(path)
        for key, part in parts.items():
            part.load_state_dict(state[key])
        checkpoints.restore_rng(state["rng"], data=data, grow=grow)
        first = state["step"]
    for step in range(first, STEPS):
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        x = torch.randn(8, 6, generator=data)
        optimizer.zero_grad()
        (model(x) - x[:, :4]).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        method.step()
        if step % 3 == 1 or step == STEPS - 1:
            states = {key: part.state_dict() for key, part in parts.items()}
            checkpoints.save(path, step=step + 1, rng=checkpoints.rng_state(data=data, grow=grow), **states)


torch.set_num_threads(1)
folder = Path(sys.argv[1])
for name in METHODS:
    train(name, folder / f"{name}.whole")
    for die_at in range(STEPS):
        path = folder / f"{name}.{die_at}"
        child = os.fork()
        if child == 0:
            train(name, path, die_at)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        train(name, path)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoints of trainings, by method, that were killed before a step and resumed, and of whole ones."""
    folder: Path = tmp_path_factory.mktemp("resume")
    (folder / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(folder / "train.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks, which this system cannot")
@pytest.mark.parametrize("name", ["set", "snfs", "granet", "rigl"])
def test_a_training_killed_before_any_step_ends_as_if_it_never_was(folder: Path, name: str) -> None:
    whole = torch.load(folder / f"{name}.whole", weights_only=True)
    assert whole["step"] == 10
    assert whole["masking"]["steps"] == 10
    for die_at in range(10):
        resumed = torch.load(folder / f"{name}.{die_at}", weights_only=True)
        assert equal(resumed, whole), f"killed before step {die_at}"


def equal(one: object, other: object) -> bool:
    """Equality to the bit of nested dicts and sequences of tensors and numbers."""
    if isinstance(one, torch.Tensor):
        if not isinstance(other, torch.Tensor) or (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))  # −0 is not +0
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(equal, one, other))
    return one == other
