from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from gossamer_rl.benchmark import PRESETS
from gossamer_rl.deepsea import DeepSea
from gossamer_rl.train import train


def test_the_only_way_to_the_treasure_is_to_go_right_all_the_way():
    sea = DeepSea(10)
    assert sea.reset()[0] == 0
    cells, rewards, over = [], [], False
    for k in range(10):
        cell, reward, over, _, _ = sea.step(int(sea.right[k, k]))
        cells.append(cell)
        rewards.append(reward)
        assert over == (k == 9)
    assert cells[:9] == [11 * k for k in range(1, 10)]
    assert sum(rewards) == pytest.approx(0.99) and rewards[0] == -0.001


def test_one_step_to_the_left_loses_the_treasure_and_left_costs_nothing():
    sea = DeepSea(5)
    sea.reset()
    assert sea.step(1 - int(sea.right[0, 0]))[:2] == (5, 0.0)  # at the left edge, a row down
    total = 0.0
    for row in range(1, 5):
        total += sea.step(int(sea.right[row, row - 1]))[1]
    assert total == pytest.approx(-0.008)


def test_actions_mean_what_they_mean_in_bsuite():
    expected = np.random.RandomState(42).binomial(1, 0.5, [20, 20])
    assert np.array_equal(gymnasium.make("DeepSea20-v0").unwrapped.right, expected)
    assert 0.4 < expected.mean() < 0.6


def test_it_is_an_environment_of_gymnasiums():
    check_env(gymnasium.make("DeepSea4-v0", disable_env_checker=True).unwrapped, skip_render_check=True)


def test_what_is_new_leads_down_to_the_treasure():
    run = train(replace(PRESETS["deepsea"], data="DeepSea10-v0", steps=50_000))
    assert run.progress.solved_after is not None
