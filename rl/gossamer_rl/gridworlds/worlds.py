"""Many copies of one task side by side, behind Gymnasium's vector interface; a step of all is one compiled call."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from gossamer import InputError
from gossamer.errors import nearest
from gossamer_rl.gridworlds.cells import loop
from gossamer_rl.gridworlds.rules import GOES_ON, SOLVED, VIEW, act, look
from gossamer_rl.gridworlds.tasks import TASKS, draw

ACTIONS = 7


class State(NamedTuple):
    """All that changes: arrays over the n copies (see `rules`), one episode's views [n, 7, 7, 3] and directions [n]."""

    cells: np.ndarray
    agents: np.ndarray
    carried: np.ndarray
    steps: np.ndarray
    targets: np.ndarray
    random: np.ndarray
    views: np.ndarray


class Outcome(NamedTuple):
    """What a step of all copies gave: rewards [n] float32; ends [n] bool; the view [n, 7, 7, 3] and direction [n]
    that an episode which has just ended shows, before its copy begins the next one."""

    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    last_views: np.ndarray
    last_directions: np.ndarray


@loop
def begin(state: State, family: int, options: np.ndarray, through_walls: bool, seen: np.ndarray, i: int) -> None:
    """Begin a new episode in copy i."""
    state.targets[i] = draw(state.cells[i], state.agents[i], family, options, state.random, i)
    state.carried[i] = state.steps[i] = 0
    look(state.cells[i], state.agents[i], 0, through_walls, state.views[i], seen)


@loop
def begin_all(state: State, family: int, options: np.ndarray, through_walls: bool) -> None:
    """Begin a new episode in every copy."""
    seen = np.zeros((VIEW, VIEW), np.bool_)
    for i in range(len(state.steps)):
        begin(state, family, options, through_walls, seen, i)


@loop
def step_all(
    state: State,
    out: Outcome,
    actions: np.ndarray,
    family: int,
    options: np.ndarray,
    limit: int,
    through_walls: bool,
    opening: bool,
) -> None:
    """Take an action in every copy, `state` and `out` are written; where an episode ends, the next one begins."""
    seen = np.zeros((VIEW, VIEW), np.bool_)
    for i in range(len(actions)):
        cells, agent = state.cells[i], state.agents[i]
        state.steps[i] += 1
        end = act(cells, agent, state.carried, i, actions[i], state.targets[i], opening)
        out.rewards[i] = 1 - 0.9 * (state.steps[i] / limit) if end == SOLVED else 0.0
        out.terminated[i] = end != GOES_ON
        out.truncated[i] = state.steps[i] >= limit
        look(cells, agent, state.carried[i], through_walls, state.views[i], seen)
        if out.terminated[i] or out.truncated[i]:
            out.last_views[i] = state.views[i]
            out.last_directions[i] = agent[2]
            begin(state, family, options, through_walls, seen, i)


class Gridworlds(VectorEnv):
    """`copies` of a MiniGrid task, by MiniGrid's id, with MiniGrid's observations (without the mission) and rewards.

    `reset(seed=…)` seeds the layouts; `step(actions)` takes whole numbers [copies] below 7. An episode that ends is
    followed at once by another layout of the task (Gymnasium's same-step autoreset): the observation is the new
    episode's, and the old one's last is in `info["final_obs"]`, of the same shape, valid where `info["_final_obs"]`.
    Raises `InputError` for an id that is not in `TASKS` and for fewer than one copy.
    """

    def __init__(self, name: str, copies: int = 1) -> None:
        if name not in TASKS:
            raise InputError(f"there is no gridworld {name!r}{nearest(name, TASKS)}; there are {', '.join(TASKS)}.")
        if copies < 1:
            raise InputError(f"copies is {copies}; it must be at least 1.")
        self.name, self.num_envs, self.task = name, copies, TASKS[name]
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        view = gymnasium.spaces.Box(0, 255, (VIEW, VIEW, 3), np.uint8)
        self.single_observation_space = gymnasium.spaces.Dict(
            {"image": view, "direction": gymnasium.spaces.Discrete(4)}
        )
        self.single_action_space = gymnasium.spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, copies)
        self.action_space = batch_space(self.single_action_space, copies)
        self._options = np.array([*self.task.options, 0], np.int64)
        shape = (copies, self.task.width, self.task.height)
        self.state = State(
            cells=np.zeros(shape, np.int32),
            agents=np.zeros((copies, 3), np.int32),
            carried=np.zeros(copies, np.int32),
            steps=np.zeros(copies, np.int32),
            targets=np.zeros(copies, np.int32),
            random=np.zeros(copies, np.uint64),
            views=np.zeros((copies, VIEW, VIEW, 3), np.uint8),
        )
        self.outcome = Outcome(
            rewards=np.zeros(copies, np.float32),
            terminated=np.zeros(copies, np.bool_),
            truncated=np.zeros(copies, np.bool_),
            last_views=np.zeros((copies, VIEW, VIEW, 3), np.uint8),
            last_directions=np.zeros(copies, np.int32),
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode in every copy; without a seed the layouts go on from where their generators stand."""
        if seed is not None or not self.state.random.any():
            self.state.random[:] = np.random.SeedSequence(seed).generate_state(self.num_envs, np.uint64)
        begin_all(self.state, self.task.family, self._options, self.task.through_walls)
        return self._observation(), {}

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one action in every copy; see the class."""
        self.advance(np.asarray(actions))
        out = self.outcome
        ended = out.terminated | out.truncated
        info: dict[str, Any] = {}
        if ended.any():
            last = {"image": out.last_views.copy(), "direction": out.last_directions.astype(np.int64)}
            info = {"final_obs": last, "_final_obs": ended}
        return self._observation(), out.rewards.copy(), out.terminated.copy(), out.truncated.copy(), info

    def advance(self, actions: np.ndarray) -> None:
        """Take one action in every copy, writing `state` and `outcome` in place: `step` without copies."""
        if (
            actions.shape != (self.num_envs,)
            or actions.dtype.kind not in "iu"
            or actions.min() < 0
            or actions.max() >= ACTIONS
        ):
            raise InputError(f"the actions are {actions}; give {self.num_envs} whole numbers in [0, {ACTIONS}).")
        task = self.task
        step_all(
            self.state,
            self.outcome,
            actions,
            task.family,
            self._options,
            task.steps,
            task.through_walls,
            task.opening,
        )

    def _observation(self) -> dict[str, np.ndarray]:
        return {"image": self.state.views.copy(), "direction": self.state.agents[:, 2].astype(np.int64)}
