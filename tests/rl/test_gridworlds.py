import gymnasium
import numpy as np
import pytest
from scipy.stats import chi2_contingency

from gossamer import InputError
from gossamer_rl.gridworlds import TASKS, Gridworlds
from gossamer_rl.gridworlds.cells import BALL, BLUE, BOX, DOOR, EMPTY, GOAL, GREY, KEY, LOCKED, cell
from gossamer_rl.gridworlds.rules import TOGGLE
from gossamer_rl.gridworlds.stock import cell_of, cells_of, put, stock

LIKELY = [0.13, 0.13, 0.4, 0.12, 0.08, 0.13, 0.01]
FAMILIES = (
    "MiniGrid-Empty-Random-6x6-v0",
    "MiniGrid-FourRooms-v0",
    "MiniGrid-DoorKey-8x8-v0",
    "MiniGrid-MultiRoom-N6-v0",
    "MiniGrid-LockedRoom-v0",
    "MiniGrid-KeyCorridorS4R3-v0",
    "MiniGrid-Unlock-v0",
    "MiniGrid-BlockedUnlockPickup-v0",
    "MiniGrid-ObstructedMaze-1Dlhb-v0",
    "MiniGrid-ObstructedMaze-2Dlhb-v1",
    "MiniGrid-LavaGapS7-v0",
    "MiniGrid-SimpleCrossingS11N5-v0",
    "MiniGrid-LavaCrossingS9N2-v0",
)


@pytest.mark.filterwarnings("ignore:.*out of date.*")
def test_sizes_and_limits_are_those_of_minigrid():
    for name, task in TASKS.items():
        theirs = stock(name)
        ours = (task.width, task.height, task.steps, task.through_walls)
        assert ours == (theirs.width, theirs.height, theirs.max_steps, theirs.see_through_walls), name


@pytest.mark.parametrize("name", FAMILIES)
def test_every_step_is_that_of_minigrid(name):
    theirs, worlds, rng = stock(name), Gridworlds(name), np.random.default_rng(0)
    worlds.reset(seed=0)
    for seed in range(3):
        observation, _ = theirs.reset(seed=seed)
        put(worlds, 0, theirs)
        assert np.array_equal(worlds.state.views[0], observation["image"])
        for action in rng.choice(7, 120, p=LIKELY):
            observation, reward, terminated, truncated, _ = theirs.step(action)
            worlds.advance(np.array([action]))
            out = worlds.outcome
            assert out.rewards[0] == pytest.approx(reward)
            assert (out.terminated[0], out.truncated[0]) == (terminated, truncated)
            if terminated or truncated:
                assert np.array_equal(out.last_views[0], observation["image"])
                break
            assert np.array_equal(worlds.state.views[0], observation["image"])
            assert np.array_equal(worlds.state.cells[0], cells_of(theirs))
            assert worlds.state.agents[0, 2] == observation["direction"]
            assert worlds.state.carried[0] == (cell_of(theirs.carrying) if theirs.carrying else 0)


@pytest.mark.parametrize("name", FAMILIES)
def test_layouts_are_distributed_as_those_of_minigrid(name):
    """Where which kind of thing, and the agent, lies: the counts of both, cell by cell, by a chi-squared test."""
    episodes = 400
    theirs, worlds = stock(name), Gridworlds(name, episodes)
    worlds.reset(seed=1)
    kinds = [worlds.state.cells.astype(int) & 15]
    agents = [worlds.state.agents.astype(int)]
    drawn, places = [], []
    for seed in range(episodes):
        theirs.reset(seed=seed)
        drawn.append(cells_of(theirs) & 15)
        places.append((*theirs.agent_pos, theirs.agent_dir))
    kinds.append(np.stack(drawn).astype(int))
    agents.append(np.array(places))
    for ours, other in (
        [(k == kind).reshape(episodes, -1).sum(0) for k in kinds] for kind in (DOOR, KEY, BALL, BOX, GOAL, EMPTY)
    ):
        same_distribution(ours, other, 2 * episodes)
    rows = [(a[:, 0] * worlds.task.height + a[:, 1]) * 4 + a[:, 2] for a in agents]
    same_distribution(*(np.bincount(r, minlength=4 * kinds[0][0].size) for r in rows), 2 * episodes)


def same_distribution(ours: np.ndarray, other: np.ndarray, total: int) -> None:
    """Assert that two counts over places are of one distribution; rare places are taken together."""
    rare = (ours + other < 10) | (ours + other > total - 10)
    table = np.stack([np.append(x[~rare], x[rare].sum()) for x in (ours, other)]) + 0.5
    if table.shape[1] > 1:
        assert chi2_contingency(table).pvalue > 1e-5


def test_a_box_gives_up_what_it_holds():
    worlds = Gridworlds("MiniGrid-ObstructedMaze-1Dlh-v0")
    worlds.reset(seed=0)
    state, key = worlds.state, cell(KEY, BLUE)
    state.cells[0, 1:4, 1:4] = EMPTY
    state.agents[0], state.cells[0, 2, 1] = (1, 1, 0), cell(BOX, GREY) + 4096 * key
    worlds.advance(np.array([TOGGLE]))
    assert state.cells[0, 2, 1] == key and state.carried[0] == 0
    state.cells[0, 2, 1] = cell(DOOR, BLUE, LOCKED)
    worlds.advance(np.array([TOGGLE]))
    assert state.cells[0, 2, 1] == cell(DOOR, BLUE, LOCKED)
    state.carried[0] = key
    worlds.advance(np.array([TOGGLE]))
    assert state.cells[0, 2, 1] == cell(DOOR, BLUE)


def test_gymnasium_sees_a_vector_environment_that_begins_anew():
    worlds = Gridworlds("MiniGrid-Empty-5x5-v0", copies=3)
    observation, _ = worlds.reset(seed=4)
    assert worlds.observation_space.contains({name: value for name, value in observation.items()})
    for step in range(1, 101):
        observation, rewards, terminated, truncated, info = worlds.step(np.zeros(3, int))
        assert not rewards.any() and not terminated.any()
        assert truncated.all() == (step == 100)
    assert info["_final_obs"].all() and info["final_obs"]["image"].shape == (3, 7, 7, 3)
    assert observation["direction"].tolist() == [0, 0, 0] and worlds.state.steps.tolist() == [0, 0, 0]
    again = Gridworlds("MiniGrid-DoorKey-8x8-v0", copies=2)
    first = again.reset(seed=9)[0]["image"]
    assert np.array_equal(first, again.reset(seed=9)[0]["image"])
    assert not np.array_equal(first, again.reset()[0]["image"])
    assert isinstance(worlds, gymnasium.vector.VectorEnv)


def test_bad_input_is_refused_by_name():
    with pytest.raises(InputError, match=r"did you mean 'MiniGrid-DoorKey-8x8-v0'"):
        Gridworlds("MiniGrid-DoorKey-8x8")
    with pytest.raises(InputError, match="copies is 0"):
        Gridworlds("MiniGrid-DoorKey-8x8-v0", 0)
    worlds = Gridworlds("MiniGrid-DoorKey-8x8-v0", 2)
    worlds.reset(seed=0)
    for actions in (np.array([0, 7]), np.array([0.0, 1.0]), np.array([1])):
        with pytest.raises(InputError, match="whole numbers"):
            worlds.step(actions)
