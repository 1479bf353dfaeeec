import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from gossamer_rl.environments import make


@pytest.mark.filterwarnings("ignore")
def test_gymnasium_finds_nothing_wrong():
    check_env(gymnasium.make("BitFlip5-v0").unwrapped, skip_render_check=True)


def test_flipping_what_differs_ends_it_with_a_reward():
    environment = gymnasium.make("BitFlip6-v0").unwrapped
    for seed in range(20):
        shown, _ = environment.reset(seed=seed)
        differing = np.flatnonzero(shown["observation"] != shown["desired_goal"])
        assert len(differing)
        for i, bit in enumerate(differing):
            shown, reward, terminated, _, _ = environment.step(bit)
            assert (reward, terminated) == ((1.0, True) if i == len(differing) - 1 else (0.0, False))
        assert (shown["achieved_goal"] == shown["desired_goal"]).all()


def test_copies_show_bits_achieved_and_wished_in_one_row_and_the_last_of_an_episode():
    copies = make("BitFlip4-v0", 3)
    copies.reset(0)
    row = copies.observe().copy()
    assert row.shape == (3, 12) and (row[:, :4] == row[:, 4:8]).all() and copies.seen.size == 12
    for _ in range(4):
        step = copies.step(np.zeros(3, np.int64))  # there and back: never all as wished, or at once
    lasting = ~step.terminated
    assert step.truncated[lasting].all() and (step.last[lasting, 8:] == row[lasting, 8:]).all()
