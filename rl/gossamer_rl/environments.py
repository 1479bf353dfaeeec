"""MiniGrid tasks: episodes from explicit seeds, and which of their steps reach a state for the first time."""

import difflib
from typing import Any, NamedTuple

import gymnasium
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv

from gossamer import InputError

EVALUATION_SEEDS = range(10_000)
TRAINING_SEEDS = range(10_000, 2**31)
REMEMBERED_VIEWS = 200_000
COLOURS, STATES = len(COLOR_TO_IDX), len(STATE_TO_IDX)
NO_DOORS = bytes(c for c in range(256) if c // (COLOURS * STATES) != OBJECT_TO_IDX["door"])


def code(cell: WorldObj | None) -> int:
    """A cell's object, colour and state as one number below 256; 0 is an empty cell."""
    if cell is None:
        return 0
    thing, colour, state = cell.encode()
    return (thing * COLOURS + colour) * STATES + state


def names() -> list[str]:
    """The environment ids that can be trained on: MiniGrid's, but for those that need a further package."""
    return [name for name in gymnasium.registry if name.startswith("MiniGrid-") and "WFC" not in name]


def make(name: str) -> MiniGridEnv:
    """The environment of that id, without Gymnasium's wrappers; raise `InputError` where there is none."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0)[0]
        raise InputError(f"data is {name!r}, which is no environment of MiniGrid's; the nearest name is {near!r}.")
    environment = gymnasium.make(name, disable_env_checker=True).unwrapped
    assert isinstance(environment, MiniGridEnv)
    return environment


class Step(NamedTuple):
    """The task's own reward, whether the state is new in this episode, and whether the episode is over."""

    reward: float
    first_visit: bool
    ended: bool


class Task:
    """One copy of an environment, in an episode that is determined by its seed and the actions so far.

    `view` is MiniGrid's own symbolic partial view, bytes of shape (7, 7, 3): object, colour and state of each cell
    before the agent, the carried object in the agent's place. Drawing it takes nine tenths of a step of MiniGrid's, and
    small tasks show the same views over and over: each is drawn once and kept under everything that it depends on, in
    `drawn`, which copies of the task can share.
    """

    def __init__(self, name: str, drawn: dict[Any, Any] | None = None) -> None:
        self.environment = make(name)
        self.drawn = {} if drawn is None else drawn
        self._draw = self.environment.gen_obs
        self.environment.gen_obs = self._observe

    def reset(self, seed: int) -> None:
        """Start the episode of that seed."""
        self.seed = seed
        self.actions: list[int] = []
        self.view = self.environment.reset(seed=seed)[0]["image"]
        self.visited = {self.state}

    def step(self, action: int) -> Step:
        """Take one action: 0 left, 1 right, 2 forward, 3 pick up, 4 drop, 5 toggle, 6 done."""
        self.actions.append(action)
        observation, reward, terminated, truncated, _ = self.environment.step(action)
        self.view = observation["image"]
        first_visit = self.state not in self.visited
        self.visited.add(self.state)
        return Step(float(reward), first_visit, terminated or truncated)

    def replay(self, seed: int, actions: list[int]) -> None:
        """Return to where an episode of that seed stood after these actions."""
        self.reset(seed)
        for action in actions:
            self.step(action)

    def _observe(self) -> dict[str, Any]:
        """The observation, drawn or remembered; notes `state`: position, direction, carried object, every door."""
        environment = self.environment
        agent = (*map(int, environment.agent_pos), int(environment.agent_dir))
        carried = code(environment.carrying)
        cells = bytes(map(code, environment.grid.grid))
        self.state = (agent, carried, cells.translate(None, delete=NO_DOORS))
        key = (agent, carried, cells)
        if key not in self.drawn:
            if len(self.drawn) >= REMEMBERED_VIEWS:
                self.drawn.clear()
            self.drawn[key] = self._draw()["image"]
        return {"image": self.drawn[key]}
