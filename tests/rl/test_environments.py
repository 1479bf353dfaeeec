import gymnasium
import numpy as np
import pytest
from minigrid.core.grid import Grid
from minigrid.core.world_object import Door, Goal, Key

from gossamer import InputError
from gossamer_rl.environments import EVALUATION_SEEDS, TRAINING_SEEDS, Step, Task, names

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)


def small_room() -> Task:
    """One corridor, eastwards: agent, key, locked door, goal; the agent faces the key."""
    task = Task("MiniGrid-DoorKey-5x5-v0")
    task.reset(0)
    environment = task.environment
    environment.grid = Grid(6, 3)
    environment.grid.wall_rect(0, 0, 6, 3)
    environment.put_obj(Key("yellow"), 2, 1)
    environment.put_obj(Door("yellow", is_locked=True), 3, 1)
    environment.put_obj(Goal(), 4, 1)
    environment.agent_pos, environment.agent_dir = (1, 1), 0
    environment.gen_obs()
    task.visited = {task.state}
    return task


@pytest.mark.parametrize("name", ["MiniGrid-DoorKey-5x5-v0", "MiniGrid-DoorKey-8x8-v0", "MiniGrid-KeyCorridorS3R1-v0"])
def test_remembered_views_are_those_of_minigrid(name):
    task, theirs = Task(name), gymnasium.make(name)
    rng = np.random.default_rng(0)
    seed = 0
    task.reset(seed)
    view = theirs.reset(seed=seed)[0]["image"]
    for action in rng.integers(0, 7, 800).tolist():
        assert np.array_equal(task.view, view)
        step = task.step(action)
        observation, reward, terminated, truncated, _ = theirs.step(action)
        assert (step.reward, step.ended) == (reward, terminated or truncated)
        view = observation["image"]
        if step.ended:
            seed += 1
            task.reset(seed)
            view = theirs.reset(seed=seed)[0]["image"]
    assert 1 < len(task.drawn) < 800


def test_first_visits_count_position_direction_carried_object_and_door():
    task = small_room()
    first = [task.step(action).first_visit for action in (RIGHT, RIGHT, RIGHT, RIGHT, DONE)]
    assert first == [True, True, True, False, False]
    assert task.step(PICK_UP).first_visit  # the same place, but with the key
    assert not task.step(PICK_UP).first_visit
    assert task.step(FORWARD).first_visit
    assert task.step(TOGGLE).first_visit  # the same place, but the door is open
    assert task.step(TOGGLE).first_visit  # closed, and no longer locked
    assert not task.step(TOGGLE).first_visit


def test_reward_is_minigrids():
    task = small_room()
    steps = [task.step(action) for action in (PICK_UP, FORWARD, TOGGLE, FORWARD, FORWARD)]
    assert [step.reward for step in steps[:-1]] == [0, 0, 0, 0]
    assert steps[-1] == Step(1 - 0.9 * 5 / 250, True, True)


def test_replay_restores_an_episode():
    task, other = Task("MiniGrid-DoorKey-6x6-v0"), Task("MiniGrid-DoorKey-6x6-v0")
    rng = np.random.default_rng(1)
    task.reset(5)
    for action in rng.integers(0, 7, 50).tolist():
        task.step(action)
    other.replay(task.seed, task.actions)
    assert other.visited == task.visited and len(task.visited) > 10
    for action in rng.integers(0, 7, 50).tolist():
        assert other.step(action) == task.step(action)
        assert np.array_equal(other.view, task.view)


def test_unknown_environment_names_the_nearest():
    with pytest.raises(InputError, match=r"'MiniGrid-DoorKey-5x5'.*'MiniGrid-DoorKey-5x5-v0'"):
        Task("MiniGrid-DoorKey-5x5")
    assert "MiniGrid-DoorKey-8x8-v0" in names()


def test_no_evaluation_seed_is_a_training_seed():
    assert EVALUATION_SEEDS.stop <= TRAINING_SEEDS.start
