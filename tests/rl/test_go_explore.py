import numpy as np
import pytest
import torch

from gossamer import InputError
from gossamer_rl.benchmark import run
from gossamer_rl.config import Config
from gossamer_rl.environments import GridworldCopies, make
from gossamer_rl.experience import Experience
from gossamer_rl.go_explore import GoExplore, situations
from gossamer_rl.gridworlds.cells import BLUE, CLOSED, DOOR, KEY, LOCKED, RED, WALL_CELL, cell

TINY = Config(data="MiniGrid-DoorKey-5x5-v0", copies=4, horizon=8, steps=64, width=8, minibatch=8)


def test_situations_count_things_and_not_places_or_colours():
    grids = np.zeros((4, 3, 3), np.int32)
    grids[:, 0] = WALL_CELL
    grids[0, 1, 1], grids[0, 2, 2] = cell(DOOR, RED, LOCKED), cell(KEY, RED)
    grids[1, 2, 1], grids[1, 1, 2] = cell(DOOR, BLUE, LOCKED), cell(KEY, BLUE)
    grids[2, 1, 1], grids[2, 2, 2] = cell(DOOR, RED, CLOSED), cell(KEY, RED)
    grids[3, 1, 1] = cell(DOOR, RED, LOCKED)
    counts = np.zeros((4, 65), np.int64)
    situations(grids, np.array([0, 0, 0, cell(KEY, RED)]), counts)
    assert np.array_equal(counts[0], counts[1])
    assert counts[0].sum() == 2 and counts[3, -1] == KEY
    assert len({row.tobytes() for row in counts}) == 3


def wandering(share: float, steps: int):
    copies, rng = GridworldCopies("MiniGrid-DoorKey-5x5-v0", 16), np.random.default_rng(0)
    copies.reset(0)
    frontier = GoExplore(copies, share, torch.Generator().manual_seed(0))
    for _ in range(steps):
        ended = copies.step(rng.integers(0, 7, 16)).ended.copy()
        frontier.step(ended)
        yield copies, frontier, ended


def test_episodes_begin_anew_in_states_that_were_met_and_some_in_layouts_of_their_own():
    begun, arrivals = [], np.zeros(0)
    for copies, frontier, ended in wandering(0.5, 600):
        state = copies.worlds.state
        for i in np.flatnonzero(ended & frontier.returned):
            kept = frontier.states["cells"][frontier.slots[i]]
            assert (kept == state.cells[i]).all((1, 2)).any() and state.steps[i] == 0
        assert np.array_equal(frontier.slots, frontier.now())
        begun += frontier.returned[ended].tolist()
        arrivals = frontier.arrivals
    assert 0.3 < np.mean(begun) < 0.7
    assert (arrivals > 0).sum() >= 3  # the key taken, the door open, the key dropped elsewhere


def test_what_a_returned_episode_gives_is_not_counted_as_solved():
    experience = Experience(
        Config(data="MiniGrid-DoorKey-5x5-v0", copies=4, frontier=0.9), torch.Generator().manual_seed(0)
    )
    assert experience.frontier is not None and isinstance(experience.environment, GridworldCopies)
    experience.environment.worlds.state.steps[:] = 249
    experience.frontier.returned[:] = [True, False, True, False]
    experience.step(torch.zeros(4, dtype=torch.int64))
    assert experience.progress.episodes == 4 and len(experience.progress.recent) == 2


def test_a_returned_episode_is_paid_by_its_task_alone():
    config = Config(data="MiniGrid-DoorKey-5x5-v0", copies=4, frontier=0.5)
    experience = Experience(config, torch.Generator().manual_seed(0))
    assert experience.frontier is not None and isinstance(experience.environment, GridworldCopies)
    experience.environment.worlds.state.steps[:] = 0
    experience.frontier.returned[:] = [True, False, True, False]
    step, paid = experience.step(torch.zeros(4, dtype=torch.int64))  # all turn, and see something new
    assert not step.rewards.any() and (paid > 0).tolist() == [False, True, False, True]


def test_only_what_can_be_restored_is_returned_to():
    with pytest.raises(InputError, match="frontier needs an environment that can be restored"):
        GoExplore(make("CartPole-v1", 1), 0.5, torch.Generator())


def test_the_privilege_is_named_in_the_result():
    result = run(Config(**{**vars(TINY), "frontier": 0.5, "episodes": 2}))
    assert "restored" in result.caveat
    assert run(Config(**{**vars(TINY), "episodes": 2})).caveat == ""
