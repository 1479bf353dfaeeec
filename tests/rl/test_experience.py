import math
from dataclasses import replace

import pytest
import torch

from gossamer_rl.config import Config
from gossamer_rl.train import Run

TINY = Config(steps=96, solved=1.0, copies=2, horizon=8, width=8, epochs=2, minibatch=8)


def test_the_bonus_is_paid_in_units_of_its_mean_and_falls_to_nothing(monkeypatch):
    monkeypatch.setattr("gossamer_rl.experience.MEMORY", math.inf)  # the mean stays what it was
    config = replace(TINY, bonus=0.5, data="MiniGrid-FourRooms-v0", discount=0.0)  # γ = 0: nothing from beyond a cut
    run = Run(config)
    run.experience.mean_bonus, steps = 0.25, config.copies * config.horizon
    paid = run.learner.collect().rewards.sum().item()
    assert paid == pytest.approx(0.5 / 0.25 * run.progress.new * steps) and paid > 0
    run.progress.updates, before = config.updates - 1, run.progress.new
    paid = run.learner.collect().rewards.sum().item()
    assert paid == pytest.approx(0.5 / 0.25 / config.updates * (run.progress.new - before) * steps)


def test_without_bonus_only_the_task_rewards():
    run = Run(replace(TINY, method="no-bonus", bonus=0.5, data="MiniGrid-FourRooms-v0", discount=0.0))
    assert run.learner.collect().rewards.sum() == 0 and run.progress.new > 0


def test_what_an_episode_that_was_cut_off_would_have_led_to_counts():
    run = Run(replace(TINY, method="no-bonus", data="MiniGrid-FourRooms-v0", horizon=40))
    run.experience.environment.worlds.state.steps[:] = 95  # both are cut off five steps on
    found = run.learner.collect()
    assert found.ended.nonzero().tolist() == [[4, 0], [4, 1]]
    assert (found.rewards[4] != 0).all() and found.rewards.count_nonzero() == 2


def test_returns_are_tallied_where_episodes_end():
    experience = Run(replace(TINY, data="CartPole-v1", copies=3)).experience
    lengths, now = [], [0, 0, 0]
    for _ in range(60):
        step, _ = experience.step(torch.zeros(3, dtype=torch.int64))
        now = [n + 1 for n in now]
        for i in range(3):
            if step.ended[i]:
                lengths.append(float(now[i]))
                now[i] = 0
    assert experience.progress.recent == lengths and experience.progress.episodes == len(lengths) > 9
    assert experience.progress.success == 1.0
