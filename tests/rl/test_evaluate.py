import numpy as np
import pytest
import torch
from torch import Tensor

from gossamer_rl.environments import Task
from gossamer_rl.evaluate import random_policy, returns

NAME = "MiniGrid-DoorKey-5x5-v0"


def shortest(seed: int) -> list[int]:
    """The fewest actions that solve the episode, by breadth-first search over replays."""
    task = Task(NAME)
    task.reset(seed)
    paths, seen = [[]], {task.state}
    for path in paths:
        for action in (0, 1, 2, 3, 5):
            task.replay(seed, path)
            if task.step(action).reward:
                return [*path, action]
            if task.state not in seen:
                seen.add(task.state)
                paths.append([*path, action])
    raise AssertionError("the episode has no solution")


def test_returns_of_known_actions():
    seeds = [0, 1, 2]
    scripts = [shortest(seed) for seed in seeds]
    time = iter(range(250))

    def policy(views: Tensor) -> Tensor:
        t = next(time)
        running = [script for script in scripts if t < len(script)]
        assert len(views) == len(running)
        logits = torch.full((len(views), 7), -1e9)
        for row, script in enumerate(running):
            logits[row, script[t]] = 0
        return logits

    result = returns(policy, NAME, seeds, torch.Generator())
    assert result == pytest.approx([1 - 0.9 * len(script) / 250 for script in scripts])


def test_an_agent_that_does_nothing_gets_nothing():
    def idle(views: Tensor) -> Tensor:
        return torch.tensor([0.0] * 6 + [1e9]).expand(len(views), 7)

    assert returns(idle, NAME, [0, 1], torch.Generator()) == [0, 0]


def test_same_generator_same_returns():
    first, second = (returns(random_policy, NAME, range(20), torch.Generator().manual_seed(4)) for _ in range(2))
    assert first == second
    assert 0 <= np.mean(first) < 0.5
