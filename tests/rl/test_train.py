import math
from dataclasses import asdict, replace

import pytest
import torch

from gossamer import InputError
from gossamer_rl.environments import TRAINING_SEEDS
from gossamer_rl.train import Config, Rollout, Run, advantages, ppo_loss, train

TINY = Config(steps=96, copies=2, horizon=8, width=8, epochs=2, minibatch=8)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rollout(rewards: list[float], values: list[float], ended: list[bool], next_value: float) -> Rollout:
    column = [torch.tensor(x)[:, None] for x in (values, rewards, ended)]
    none = torch.zeros(0)
    return Rollout(none, none, none, *column, torch.tensor([next_value]))


def test_advantages_by_hand():
    # δ = 0 + ½·2 − 1, 1 + ½·4 − 2, 0 + ½·8 − 4 = 0, 1, 0 and A = 0 + ¼·1, 1 + ¼·0, 0
    result = advantages(rollout([0.0, 1.0, 0.0], [1.0, 2.0, 4.0], [False] * 3, 8.0), discount=0.5, trace=0.5)
    assert result[:, 0].tolist() == [0.25, 1.0, 0.0]


def test_nothing_is_carried_over_the_end_of_an_episode():
    # δ₁ = 1 − 2 without the next episode's value; A₀ = 0 + ¼ · −1
    result = advantages(rollout([0.0, 1.0, 0.0], [1.0, 2.0, 4.0], [False, True, False], 8.0), 0.5, 0.5)
    assert result[:, 0].tolist() == [-0.25, -1.0, 0.0]


def test_loss_by_hand():
    # ρ = 2, ½ and A = 1, −1: min(2, 1.2) = 1.2 and min(−½, −0.8) = −0.8; ½ · mean(1, 9) = 2.5; entropy term 0.3
    loss = ppo_loss(
        torch.tensor([math.log(2), math.log(0.5)]),
        torch.zeros(2),
        torch.tensor([1.0, -1.0]),
        torch.tensor([0.0, 3.0]),
        torch.tensor([1.0, 0.0]),
        0.3,
    )
    assert loss.item() == pytest.approx(2.5 - 0.2 - 0.3)


def test_bonus_is_paid_for_first_visits_and_falls_to_nothing():
    config = replace(TINY, bonus=0.5)
    run = Run(config)
    paid = run.collect().rewards
    assert paid.sum().item() == pytest.approx(0.5 * run.progress.first_visits) and run.progress.first_visits > 0
    run.progress.updates = config.updates - 1
    before = run.progress.first_visits
    last = run.collect().rewards.sum().item()
    assert last == pytest.approx(0.5 / config.updates * (run.progress.first_visits - before))


def test_without_bonus_only_the_task_rewards():
    run = Run(replace(TINY, method="no-bonus", bonus=0.5))
    assert run.collect().rewards.sum() == 0 and run.progress.first_visits > 0


def test_training_episodes_come_from_training_seeds():
    run = Run(TINY)
    assert all(task.seed in TRAINING_SEEDS for task in run.tasks)
    assert len({task.seed for task in run.tasks}) == TINY.copies


@pytest.mark.parametrize("method", ["rigl", "static-random"])
def test_dead_weights_stay_zero_and_only_rigl_moves_them(method):
    config = replace(TINY, method=method, sparsity=0.8)
    before = {name: mask.clone() for name, mask in Run(config).masking.masks.items()}
    run = train(config)
    assert run.masking.sparsity == pytest.approx(0.8, abs=0.001)
    for name, mask in run.masking.masks.items():
        assert not run.agent.get_parameter(name)[~mask].any()
        assert mask.sum() == before[name].sum()
    moved = any(not torch.equal(mask, before[name]) for name, mask in run.masking.masks.items())
    assert moved == (method == "rigl")


def state(run: Run) -> dict:
    return {**run.agent.state_dict(), "generator": run.generator.get_state()}


def history(run: Run) -> dict:
    return {name: value for name, value in asdict(run.progress).items() if name != "seconds"}


def same(first: Run, second: Run) -> bool:
    return history(first) == history(second) and all(torch.equal(v, state(second)[k]) for k, v in state(first).items())


def test_same_seed_same_numbers():
    assert same(train(TINY), train(TINY))
    assert not same(train(TINY), train(replace(TINY, seed=2)))


@pytest.mark.parametrize("method", ["dense", "rigl"])
def test_resumed_run_equals_one_never_interrupted(tmp_path, method):
    config = replace(TINY, method=method)
    stopped = Run(config)
    for _ in range(2):
        stopped.improve(stopped.collect())
        stopped.progress.updates += 1
    stopped.save(tmp_path / "run.pt")
    resumed = train(replace(config, checkpoint=tmp_path / "run.pt"))
    whole = train(config)
    whole.progress.curve = resumed.progress.curve  # the loop by hand above kept none for its two updates
    assert same(resumed, whole)


def test_checkpoint_of_another_run_is_refused(tmp_path):
    Run(TINY).save(tmp_path / "run.pt")
    with pytest.raises(InputError, match="another run"):
        train(replace(TINY, seed=9, checkpoint=tmp_path / "run.pt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "rig"}, "'rig'.*'rigl'"),
        ({"sparsity": 1.0}, r"1\.0.*\[0, 1\)"),
        ({"sparsity": -0.1}, r"-0\.1.*\[0, 1\)"),
        ({"steps": 0}, "steps is 0"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_unknown_environment_is_named_before_training():
    with pytest.raises(InputError, match="DoorKey-5x5-v0"):
        train(replace(TINY, data="DoorKey-5x5"))
