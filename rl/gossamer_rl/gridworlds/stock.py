"""Layouts made by the package `minigrid` itself, put into the compiled worlds."""

from typing import Any

import gymnasium
import numpy as np
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv

from gossamer_rl.gridworlds.cells import EMPTY
from gossamer_rl.gridworlds.rules import VIEW, look
from gossamer_rl.gridworlds.worlds import Gridworlds


def stock(name: str, **options: Any) -> MiniGridEnv:
    """MiniGrid's own environment of that id, without Gymnasium's wrappers."""
    environment = gymnasium.make(name, disable_env_checker=True, **options).unwrapped
    assert isinstance(environment, MiniGridEnv)
    return environment


def cell_of(thing: WorldObj | None) -> int:
    """MiniGrid's object as a cell."""
    if thing is None:
        return EMPTY
    kind, colour, state = thing.encode()
    inside = cell_of(thing.contains) if thing.contains is not None else 0
    return kind + 16 * colour + 256 * state + 4096 * inside


def cells_of(environment: MiniGridEnv) -> np.ndarray:
    """The whole grid [width, height] of an environment of MiniGrid's."""
    cells = [cell_of(thing) for thing in environment.grid.grid]
    return np.array(cells, np.int32).reshape(environment.height, environment.width).T


def put(worlds: Gridworlds, i: int, environment: MiniGridEnv) -> None:
    """Put the episode that the environment has just begun into copy i."""
    state, goal = worlds.state, getattr(environment, "obj", None)
    state.cells[i] = cells_of(environment)
    state.agents[i] = (*environment.agent_pos, environment.agent_dir)
    state.carried[i] = state.steps[i] = 0
    state.targets[i] = 0 if goal is None else cell_of(goal)
    seen = np.zeros((VIEW, VIEW), np.bool_)
    look(state.cells[i], state.agents[i], 0, worlds.task.through_walls, state.views[i], seen)
