import dataclasses
import hashlib
import io
import os
import pickle
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import gossamer
from gossamer import checkpoints

RESUME = """
import os, random, signal, sys, time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import gossamer as gs
from gossamer import checkpoints

torch.set_num_threads(1)
STEPS = 24


def train(path, gate=None):
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    shuffle = torch.Generator().manual_seed(1)
    grow = torch.Generator().manual_seed(2)
    model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, 3))
    masking = gs.sparsify(model, 0.8, score="random", generator=grow)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    masking.attach(optimizer)
    method = gs.SET(masking, every=3, until=20, generator=grow)
    parts = {"masking": masking, "model": model, "optimizer": optimizer, "scheduler": scheduler, "method": method}
    first = 0
    if path.exists():
        state = checkpoints.load(path)
        for name, part in parts.items():  # the masks before the weights
            part.load_state_dict(state[name])
        checkpoints.restore_rng(state["rng"], shuffle=shuffle, grow=grow)
        first = state["step"]
    for step in range(first, STEPS):
        if gate is not None:
            os.read(gate, 1)
        x = torch.randn(16, 12, generator=shuffle) + random.random() + np.random.rand()
        loss = nn.functional.cross_entropy(model(x), x.argmax(1) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.step()
        scheduler.step()
        rng = checkpoints.rng_state(shuffle=shuffle, grow=grow)
        states = {name: part.state_dict() for name, part in parts.items()}
        checkpoints.save(path, step=step + 1, rng=rng, **states)


def fork(path, gate=None, seconds=None):
    child = os.fork()
    if child == 0:
        try:
            train(path, gate)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


folder = Path(sys.argv[1])
train(folder / "warm")
start = time.perf_counter()
assert fork(folder / "whole") == 0
whole = time.perf_counter() - start
rng = random.Random(0)
for _ in range(12):  # at any instant: a run may take two steps more, then waits to be killed
    gate, steps = os.pipe()
    os.write(steps, b"..")
    assert fork(folder / "instants", gate=gate, seconds=rng.uniform(0, whole / 4)) == -signal.SIGKILL
assert fork(folder / "instants") == 0
"""


def same(one: Any, other: Any) -> bool:
    """Equality of nested state, of tensors to the bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(
            one.reshape(-1).contiguous().view(torch.uint8), other.reshape(-1).contiguous().view(torch.uint8)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(3, 4)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_training_killed_at_any_instant_resumes_to_the_same_bits(tmp_path: Path):
    run = subprocess.run([sys.executable, "-c", RESUME, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    whole = checkpoints.load(tmp_path / "whole")
    assert whole["step"] == 24
    assert int(whole["masking"]["steps"]) == 24
    for name in ("warm", "instants"):
        assert same(checkpoints.load(tmp_path / name), whole)


def test_torch_reads_a_checkpoint_without_unpickling(tmp_path: Path):
    model, optimizer = trained()
    path = tmp_path / "last.pt"
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3, "best": float("-inf")}
    checkpoints.save(path, **state)
    assert same(torch.load(path, weights_only=True), state)
    assert same(checkpoints.load(path), state)


def test_every_plain_kind_returns(tmp_path: Path):
    state = dict(
        nothing=None, flag=True, large=2**200, ratio=0.1, wave=1j, name="ä", raw=b"\0", size=torch.Size([2]),
        pair=(1, [2]), chosen={1, 2}, counts=Counter("aab"), dtype=torch.bfloat16, device=torch.device("cpu"),
        few=torch.ones(2).bfloat16(),
    )  # fmt: skip
    checkpoints.save(tmp_path / "state", **state)
    assert same(checkpoints.load(tmp_path / "state"), state)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.float64(1), r"state\['x'\] is a numpy.float64"),
        ({"a": [1, np.zeros(2)]}, r"state\['x'\]\['a'\]\[1\] is a numpy.ndarray"),
        ({Path("p"): 1}, r"a key of state\['x'\] is a pathlib"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (print, "builtin_function"),
    ],
)
def test_objects_are_refused_when_saving(tmp_path: Path, value: Any, says: str):
    checkpoints.save(tmp_path / "state", x=1)
    with pytest.raises(gossamer.InputError, match=says):
        checkpoints.save(tmp_path / "state", x=value)
    assert checkpoints.load(tmp_path / "state") == {"x": 1}
    assert os.listdir(tmp_path) == ["state"]


def test_a_damaged_checkpoint_is_refused(tmp_path: Path):
    model, _ = trained()
    path = tmp_path / "last.pt"
    checkpoints.save(path, model=model.state_dict())
    content = path.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(gossamer.InputError, match="Resume from an older checkpoint"):
            checkpoints.load(path)
    for length in [0, 1, 71, *rng.sample(range(len(content)), 100)]:
        path.write_bytes(content[:length])
        with pytest.raises(gossamer.InputError, match=r"last\.pt (is damaged|does not end)"):
            checkpoints.load(path)


def test_a_checkpoint_made_to_harm_runs_no_code(tmp_path: Path):
    class Attack:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "owned"),)

    buffer = io.BytesIO()
    torch.save({"model": Attack()}, buffer)
    path = tmp_path / "last.pt"
    for content in (buffer.getvalue()[:-2], pickle.dumps(Attack()), pickle.dumps([1])):
        comment = checkpoints.COMMENT_SIZE.to_bytes(2, "little") + checkpoints.COMMENT
        digest = hashlib.sha256(content + comment).hexdigest()
        path.write_bytes(content + comment + digest.encode())
        with pytest.raises(gossamer.InputError, match="without running code"):
            checkpoints.load(path)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(gossamer.InputError, match="cut off, or another's"):
        checkpoints.load(path)
    with pytest.raises(gossamer.InputError, match="cannot be read"):
        checkpoints.load(tmp_path / "none")
    assert not (tmp_path / "owned").exists()


def test_every_generator_goes_on_where_it_was(tmp_path: Path):
    kinds = (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
    ours = {kind.__name__: np.random.Generator(kind(5)) for kind in kinds} | {"torch": torch.Generator().manual_seed(3)}

    def draw() -> list[Any]:
        globals_ = [random.gauss(0, 1), np.random.randn(), torch.rand(1).item()]
        return globals_ + [
            torch.rand(1, generator=g).item()
            if isinstance(g, torch.Generator)
            else (g.normal(), int(g.integers(0, 9999, dtype=np.int32)))
            for g in ours.values()
        ]

    draw()  # half of a pair of normal and of 32-bit draws is left over
    checkpoints.save(tmp_path / "rng", rng=checkpoints.rng_state(**ours))
    expected = [draw(), draw()]
    draw()
    checkpoints.restore_rng(checkpoints.load(tmp_path / "rng")["rng"], **ours)
    assert [draw(), draw()] == expected


def test_a_missing_generator_is_named():
    state = checkpoints.rng_state(shuffle=torch.Generator())
    with pytest.raises(gossamer.InputError, match=r"holds generators \['shuffle'\], not \['grow'\]"):
        checkpoints.restore_rng(state, grow=torch.Generator())
    gpus = len(state["cuda"]) + 1
    with pytest.raises(gossamer.InputError, match=f"the generators of {gpus} GPUs; here are {gpus - 1}"):
        checkpoints.restore_rng({**state, "cuda": [torch.zeros(1)] * gpus}, shuffle=torch.Generator())


LOOP = """
import os, signal, sys, time
from pathlib import Path
from gossamer import checkpoints

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
path, every = (Path(sys.argv[1]) if sys.argv[1] else None), float(sys.argv[2])
count = 0
print("ready", flush=True)
try:
    with checkpoints.Checkpoint(path, lambda path: path.write_text(str(count)), every=every) as checkpoint:
        while count < 100_000:
            count += 1
            for _ in range(20):  # a step is whole or not at all
                time.sleep(0.001)
            checkpoint.step()
            print(count, flush=True)
except checkpoints.Stopped as stopped:
    print("said", stopped, flush=True)
    raise SystemExit(130)
"""


def stop(path: str, every: str, *signals: signal.Signals) -> tuple[int, list[str]]:
    """The status and the lines of a loop that gets these signals after its second step."""
    command = [sys.executable, "-c", LOOP, path, every]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as loop:
        assert loop.stdout is not None
        lines = [loop.stdout.readline() for _ in range(3)]
        for number in signals:
            loop.send_signal(number)
        lines += loop.stdout.readlines()
        return loop.wait(timeout=60), lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_keeps_it(tmp_path: Path, number: signal.Signals):
    status, lines = stop(str(tmp_path / "run"), "1000", number)
    assert status == 130
    assert lines[-1] == f"said stopped; kept in {tmp_path / 'run'}: the same command goes on\n"
    steps = [int(line) for line in lines[1:-1]]
    assert int((tmp_path / "run").read_text()) == steps[-1] + 1  # the last one has not been printed


def test_without_a_file_nothing_is_kept_and_it_says_so():
    status, lines = stop("", "1000", signal.SIGINT)
    assert status == 130 and lines[-1] == "said stopped; nothing was kept (give --checkpoint FILE)\n"


def test_the_first_step_and_the_end_are_kept_and_what_fails_is_not(tmp_path: Path):
    path, written = tmp_path / "folder" / "run", []
    with checkpoints.Checkpoint(path, written.append) as checkpoint:
        checkpoint.step()
        checkpoint.step()
        assert written == [path]
    assert written == [path] * 2
    with pytest.raises(ZeroDivisionError), checkpoints.Checkpoint(path, written.append):
        raise ZeroDivisionError
    with checkpoints.Checkpoint(path, written.append, every=0.0) as checkpoint:
        checkpoint.step()
        checkpoint.step()
    assert written == [path] * 5
    (tmp_path / "file").write_text("")
    with pytest.raises(gossamer.InputError, match="cannot be written"):
        checkpoints.Checkpoint(tmp_path / "file" / "run", written.append)


def test_an_interruption_between_says_how_old_the_kept_state_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    with (
        pytest.raises(checkpoints.Stopped, match=r"run as it was 7 s ago: the same"),
        checkpoints.Checkpoint(tmp_path / "run", lambda path: None) as checkpoint,
    ):
        checkpoint.step()
        now[0] += 7
        raise KeyboardInterrupt
    with (
        pytest.raises(checkpoints.Stopped, match="before anything was kept"),
        checkpoints.Checkpoint(tmp_path / "run", lambda path: None),
    ):
        raise KeyboardInterrupt


@dataclasses.dataclass(frozen=True)
class Config:
    places: ClassVar[tuple[str, ...]] = ("folder",)
    seed: int = 1
    sizes: tuple[int, ...] = (2, 3)
    folder: Path | None = None


def test_another_run_is_told_by_the_fields_that_differ():
    config = Config(seed=3, folder=Path("here"))
    for saved in ({"seed": 3, "sizes": [2, 3]}, {"seed": 3}, {"seed": 3, "folder": "there", "gone": 5}):
        checkpoints.same_run(saved, config, "run.pt")
    with pytest.raises(
        gossamer.InputError, match=r"run.pt is of another run, with seed 1 \(here 3\), sizes \[4\] \(here"
    ):
        checkpoints.same_run({"sizes": [4]}, config, "run.pt")
    checkpoints.same_run({"sizes": [2, 3], "seed": 2}, config, "run.pt", but=("seed",))
