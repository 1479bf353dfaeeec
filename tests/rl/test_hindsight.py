from dataclasses import replace

import numpy as np
import pytest
import torch

from gossamer import InputError
from gossamer_rl.config import Config
from gossamer_rl.environments import make
from gossamer_rl.hindsight import Goals, Hindsight, some_later
from gossamer_rl.train import train

BITFLIP = Config(
    agent="dqn", data="BitFlip8-v0", method="no-bonus", steps=24_000, copies=8, horizon=100, minibatch=128, epochs=16,
    several=1, hindsight=True, solved=1.0,
)  # fmt: skip


def test_later_stays_within_the_episode_and_what_is_written():
    ended = np.array([[False, False], [True, False], [False, False], [False, False]])
    slots, later = np.array([0, 0, 2, 4, 1, 7]), np.zeros(6, np.int64)
    some_later(ended, slots, 3, np.array([0.0, 0.99, 0.99, 0.99, 0.99, 0.5]), later)
    # rows 0 and 1 of copy 0 are an episode, and row 2 begins one that goes on at the newest row, 3; copy 1 goes on
    assert later.tolist() == [0, 2, 2, 6, 7, 7]


def filled() -> Hindsight:
    copies = make("BitFlip4-v0", 2)
    goals = Goals(4, copies.rewards, copies.ends)
    replay, rng = Hindsight(64, 2, copies.seen, 1, 0.9, goals), np.random.default_rng(0)
    copies.reset(0)
    for _ in range(30):
        shown, actions = torch.from_numpy(copies.observe().copy()), rng.integers(0, 4, 2)
        step = copies.step(actions)
        beyond = torch.from_numpy(np.where(step.ended[:, None], step.last, copies.observe()))
        replay.add(shown, torch.from_numpy(actions), step.rewards, step.terminated, step.ended, beyond)
    return replay


def test_goals_are_what_was_reached_and_rewards_follow():
    replay = filled()
    before = replay.observations.clone()
    batch = replay.draw(400, 0.4, torch.Generator().manual_seed(0))
    own = replay.observations.flatten(0, 1)[batch.slots]
    changed = (batch.observations != own).any(1)
    assert 0.4 < float(changed.float().mean()) < 0.9
    assert (batch.observations[:, :8] == own[:, :8]).all() and torch.equal(before, replay.observations)
    assert (batch.observations[:, 8:] == batch.beyond[:, 8:]).all()
    reached = (batch.beyond[:, 4:8] == batch.beyond[:, 8:]).all(1)
    assert (batch.sums == reached).all() and torch.allclose(batch.factors, 0.9 * (~reached).float())
    assert 0.2 < float(reached.float().mean()) < 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "CartPole-v1"}, "environments of goals"),
        ({"several": 3}, "several is 3"),
        ({"agent": "ppo"}, "hindsight is for the agent dqn"),
    ],
)
def test_what_does_not_go_together_is_named(change, message):
    with pytest.raises(InputError, match=message):
        train(replace(BITFLIP, **change))
