import numpy as np
import pytest

from gossamer import InputError
from gossamer_rl.config import Config
from gossamer_rl.evaluate import Options, interquartile_mean, interval, main, profile
from gossamer_rl.train import train


def test_interquartile_mean_by_hand():
    assert interquartile_mean([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0]) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_interval_holds_the_mean_and_narrows_with_more_runs():
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=5), rng.normal(size=500)
    widths = []
    for values in (few, many):
        low, high = interval([values.tolist()], np.random.default_rng(1))
        assert low <= interquartile_mean(values.tolist()) <= high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]


def test_runs_are_drawn_within_their_task():
    # whatever is drawn, one task gives 0s and the other 1s: 4 of 8 each, of which the middle half are two of each
    assert interval([[0.0] * 4, [1.0] * 4], np.random.default_rng(0)) == (0.5, 0.5)


def test_profile_is_the_share_above_a_level_and_each_task_counts_once():
    tasks = [[0.2, 0.4, 0.6, 0.8], [1.0]]
    assert profile(tasks, [0.0, 0.4, 0.9, 1.0]) == [1.0, (2 / 4 + 1) / 2, 1 / 2, 0.0]


def test_the_command_scores_a_saved_policy_here_and_elsewhere(tmp_path, capsys):
    path = tmp_path / "policy.gossamer"
    train(Config(steps=96, copies=2, horizon=8, width=8, epochs=1, minibatch=8, save=path))
    main(Options(path, episodes=4))
    main(Options(path, data="MiniGrid-DoorKey-6x6-v0", episodes=4))
    out = capsys.readouterr().out
    assert "MiniGrid-DoorKey-5x5-v0: 4 layouts" in out and "MiniGrid-DoorKey-6x6-v0: 4 layouts" in out
    with pytest.raises(InputError, match="episodes is 0"):
        Options(path, episodes=0)
