import numpy as np
import pytest
import torch

from gossamer_rl.gridworlds.stock import stock
from gossamer_rl.rollouts import at_random, in_gridworlds, one_by_one, play

FORWARD = 2


def always(action: int, actions: int = 7):
    return lambda observations, state: (100.0 * torch.eye(actions)[[action] * len(observations)], state)


def test_gridworlds_play_the_layouts_of_minigrids_own_seeds():
    name, seeds = "MiniGrid-Empty-Random-5x5-v0", range(60)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    side_by_side = in_gridworlds(always(FORWARD), name, seeds, generators[0])
    alone = one_by_one(always(FORWARD), name, seeds, generators[1])
    assert side_by_side.lengths == alone.lengths
    np.testing.assert_allclose(side_by_side.returns, alone.returns, rtol=1e-6)  # rewards are float32 in vectors
    solved = []
    for seed in seeds:
        environment = stock(name)
        environment.reset(seed=seed)
        x, y, direction = *environment.agent_pos, environment.agent_dir
        solved.append((direction == 0 and y == 3) or (direction == 1 and x == 3))
    assert [value > 0 for value in side_by_side.returns] == solved and any(solved)
    assert side_by_side.success == np.mean(solved)


def test_the_same_seed_gives_the_same_episodes():
    name = "MiniGrid-Empty-5x5-v0"
    first, second, other = (play(at_random(name), name, range(8), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first == second != other
    assert all(1 <= n <= 100 for n in first.lengths)


def test_any_environment_of_gymnasiums_is_played():
    found = play(always(0, 2), "CartPole-v1", range(3), torch.Generator().manual_seed(0))
    assert found.returns == found.lengths and all(5 < n < 20 for n in found.lengths)


@pytest.mark.parametrize("name", ["MiniGrid-Empty-5x5-v0", "CartPole-v1"])
def test_a_state_goes_from_step_to_step_and_begins_anew(name):
    states = []

    def counting(observations, state):
        states.append(None if state is None else int(state[0]))
        return torch.zeros(len(observations), 2), torch.ones(1) + (0 if state is None else state)

    found = play(counting, name, range(2), torch.Generator().manual_seed(0))
    lengths = [max(found.lengths)] if name.startswith("MiniGrid") else found.lengths
    assert states == [None if t == 0 else t for length in lengths for t in range(length)]
