import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch

from gossamer import InputError, checkpoints
from gossamer.threads import using_threads
from gossamer_rl.config import BONUSES, Config
from gossamer_rl.train import Run, train

TINY = Config(steps=96, solved=1.0, copies=2, horizon=8, width=8, epochs=2, minibatch=8)


@pytest.fixture(autouse=True)
def one_thread():
    with using_threads(1):
        yield


@pytest.mark.parametrize("method", ["rigl", "set", "static-random"])
def test_dead_weights_stay_zero_and_only_some_methods_move_them(method):
    config = replace(TINY, method=method, sparsity=0.8)
    before = {name: mask.clone() for name, mask in Run(config).masking.masks.items()}
    run = train(config)
    assert run.masking.sparsity == pytest.approx(0.8, abs=0.001)
    for name, mask in run.masking.masks.items():
        assert not run.agent.get_parameter(name)[~mask].any()
        assert mask.sum() == before[name].sum()
    moved = any(not torch.equal(mask, before[name]) for name, mask in run.masking.masks.items())
    assert moved == (method != "static-random")


def test_gradual_pruning_ends_at_the_sparsity_asked():
    assert train(replace(TINY, method="gmp", sparsity=0.8)).masking.sparsity == pytest.approx(0.8, abs=0.001)


def test_the_critic_stays_dense_where_asked():
    masks = Run(replace(TINY, method="rigl", sparse_critic=False, memory=True, unroll=8)).masking.masks
    assert sum(int((~mask).sum()) for mask in masks.values()) / sum(m.numel() for m in masks.values()) > 0.89
    assert {name.split(".")[0] for name in masks} == {"actor"} and len(masks) == 4


def history(run: Run) -> dict:
    return {name: value for name, value in asdict(run.progress).items() if "seconds" not in name}


def same(first: Run, second: Run) -> bool:
    weights = zip(first.agent.state_dict().values(), second.agent.state_dict().values(), strict=True)
    generators = torch.equal(first.generator.get_state(), second.generator.get_state())
    return history(first) == history(second) and generators and all(torch.equal(a, b) for a, b in weights)


def test_same_seed_same_numbers():
    assert same(train(TINY), train(TINY))
    assert not same(train(TINY), train(replace(TINY, seed=2)))


KINDS = [{"exploration": name} for name in BONUSES] + [
    {"method": "rigl"},
    {"frontier": 0.5},
    {"self_imitation": True, "data": "MiniGrid-Empty-5x5-v0", "steps": 480},
    {"self_imitation": True, "data": "MiniGrid-Empty-5x5-v0", "steps": 480, "memory": True, "unroll": 4},
    {"self_imitation": True, "data": "MiniGrid-Empty-5x5-v0", "steps": 480, "agent": "dqn", "minibatch": 2},
    {"memory": True, "unroll": 4},
    {"memory": True, "unroll": 4, "method": "rigl"},
    {"agent": "dqn"},
    {"agent": "dqn", "method": "rigl", "minibatch": 2},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_resumed_run_equals_one_never_interrupted(tmp_path, kind):
    config = replace(TINY, **kind)
    stopped = Run(config)
    for _ in range(2):
        stopped.step()
    stopped.save(tmp_path / "run.pt")
    resumed = train(replace(config, checkpoint=tmp_path / "run.pt"))
    assert same(resumed, train(config))


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path):
    words = ["--memory", "--copies", "4", "--horizon", "32", "--width", "8", "--minibatch", "64"]
    words += ["--solved", "1", "--steps", "19200", "--threads", "1"]
    path = tmp_path / "run.pt"
    script = (
        "from gossamer import checkpoints; from gossamer_rl import train; from gossamer.cli import train_command\n"
        "import functools; checkpoints.Checkpoint = functools.partial(checkpoints.Checkpoint, every=0.0)\n"
        "train_command('rl')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, *words, "--checkpoint", str(path)], cwd=tmp_path)
    while process.poll() is None and not (path.exists() and whole_updates(path) >= 3):
        time.sleep(0.05)
    process.kill()
    process.wait()
    config = replace(TINY, memory=True, copies=4, horizon=32, minibatch=64, steps=19200, epochs=4, checkpoint=path)
    assert 3 <= whole_updates(path) < config.updates
    assert same(train(config), train(replace(config, checkpoint=None)))


def whole_updates(path) -> int:
    return checkpoints.load(path)["experience"]["progress"]["updates"]


def test_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path):
    Run(TINY).save(tmp_path / "run.pt")
    with pytest.raises(InputError, match=r"seed 1 \(here 9\)"):
        train(replace(TINY, seed=9, checkpoint=tmp_path / "run.pt"))


def test_ctrl_c_keeps_the_run(tmp_path):
    path = tmp_path / "run.pt"
    words = ["--steps", "100000000", "--checkpoint", str(path)]
    script = (  # a background job ignores SIGINT: take it back
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gossamer.cli import train_command; train_command('rl')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not path.exists() and process.poll() is None:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and f"kept in {path}" in errors.replace("\n", "")
    assert whole_updates(path) >= 1


def test_an_early_end_where_the_task_is_solved():
    run = train(Config(data="MiniGrid-Empty-5x5-v0", steps=200_000, copies=16, horizon=64, minibatch=256))
    assert run.progress.solved_after == run.progress.curve[-1][0] < 200_000
    assert run.progress.success >= 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "rig"}, "'rig'.*'rigl'"),
        ({"exploration": "rnb"}, "'rnb'.*'rnd'"),
        ({"sparsity": 1.0}, r"1\.0.*\[0, 1\)"),
        ({"sparsity": math.nan}, r"nan.*\[0, 1\)"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 3}, "one update"),
        ({"width": 0}, "width is 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"learning_rate": 1e6}, "learning_rate is 1000000"),
        ({"discount": 2.0}, "discount is 2"),
        ({"bonus": -1.0}, "bonus is -1"),
        ({"bonus": math.nan}, "bonus is nan"),
        ({"seed": 2**70}, "seed is"),
        ({"memory": True, "unroll": 3}, "must divide the horizon, 8"),
        ({"memory": True, "agent": "dqn"}, "memory is for the agent ppo"),
        ({"epsilon": 2.0}, "epsilon is 2"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_bad_places_and_devices_are_named_before_training(tmp_path):
    with pytest.raises(InputError, match="DoorKey-5x5-v0"):
        train(replace(TINY, data="MiniGrid-DoorKey-5x5"))
    with pytest.raises(InputError, match="cannot be written"):
        train(replace(TINY, save=tmp_path))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cuda"):
            train(replace(TINY, accelerator="cuda"))
