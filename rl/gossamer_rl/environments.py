"""Environments as agents see them: many copies, observations as codes or floats, and a key for what counts as new.

MiniGrid's tasks run as compiled kernels (`gridworlds`); any other environment of Gymnasium's with discrete actions runs
behind its own vector interface.
"""

import functools
from typing import Any, NamedTuple, Protocol

import gymnasium
import minigrid  # noqa: F401  it registers its ids with Gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from gossamer import InputError
from gossamer.errors import nearest
from gossamer_rl import bitflip, deepsea  # noqa: F401  as minigrid
from gossamer_rl.gridworlds import TASKS, Gridworlds
from gossamer_rl.gridworlds.cells import COLOURS, loop
from gossamer_rl.gridworlds.rules import VIEW

EVALUATION_SEEDS = range(10_000)
TRAINING_SEEDS = range(10_000, 2**31)
OBJECTS, STATES = 11, 3
CODES = OBJECTS * COLOURS * STATES
CELLS = VIEW * VIEW
GOALS = ("observation", "achieved_goal", "desired_goal")
"""what an environment of goals shows, in this order"""
BINS = 16
"""in how many parts the range of a number is cut, for its key"""


class Seen(NamedTuple):
    """What an observation is made of, per copy: `members` as `OneHotLinear` wants them, for codes; or `size` floats."""

    members: np.ndarray | None
    size: int


class Step(NamedTuple):
    """Rewards [n] float32, ends [n] bool, and the last observation [n, …] of episodes that have just ended."""

    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    last: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """Which episodes are over, for whatever reason."""
        return self.terminated | self.truncated


class Environment(Protocol):
    """`copies` of an environment that begin anew by themselves; episodes take at most `limit` steps, if any."""

    @property
    def copies(self) -> int:
        """How many there are."""
        ...

    @property
    def actions(self) -> int:
        """How many actions there are."""
        ...

    @property
    def limit(self) -> int | None:
        """The most steps of an episode."""
        ...

    @property
    def seen(self) -> Seen:
        """What an observation is made of."""
        ...

    def reset(self, seed: int) -> None:
        """Begin a new episode in every copy, the same ones for the same seed."""
        ...

    def observe(self) -> np.ndarray:
        """What every copy shows now: codes [n, columns] or floats [n, size]."""
        ...

    def step(self, actions: np.ndarray) -> Step:
        """Take an action in every copy; an episode that ends is followed by the next."""
        ...

    def keys(self, state: bool = False) -> np.ndarray:
        """A number [n] uint64 for what every copy shows, or for the simulator's whole state: equal where that is."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it takes to go on from here; raises `InputError` where the simulator cannot be stored."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...


def make(name: str, copies: int) -> Environment:
    """The environment of that id. Raises `InputError` for an unknown id and for one that no agent here can act in."""
    if name in TASKS:
        return GridworldCopies(name, copies)
    if name not in gymnasium.registry:
        known = [*TASKS, *gymnasium.registry]
        raise InputError(f"data is {name!r}, which is no environment of Gymnasium's{nearest(name, known)}.")
    return GymnasiumCopies(name, copies)


@functools.cache
def grid_members() -> np.ndarray:
    """For each cell of a view, and for the direction: which one-hot inputs a code stands for [50, 198, 3]."""
    width = OBJECTS + COLOURS + STATES
    triples = np.stack(np.unravel_index(np.arange(CODES), (OBJECTS, COLOURS, STATES)), axis=1)
    triples += np.array([0, OBJECTS, OBJECTS + COLOURS])
    members = np.full((CELLS + 1, CODES, 3), -1)
    members[:CELLS] = width * np.arange(CELLS)[:, None, None] + triples
    members[CELLS, :4, 0] = width * CELLS + np.arange(4)
    return members


def grid_seen() -> Seen:
    """What MiniGrid's view and direction are made of."""
    return Seen(grid_members(), int(grid_members().max()) + 1)


@loop
def grid_codes(views: np.ndarray, directions: np.ndarray, codes: np.ndarray) -> None:
    """Bytes [n, 7, 7, 3] and directions [n] as codes [n, 50]: (object · 6 + colour) · 3 + state; the direction last."""
    for n in range(len(views)):
        for i in range(VIEW):
            for j in range(VIEW):
                view = views[n, i, j]
                codes[n, i * VIEW + j] = (view[0] * COLOURS + view[1]) * STATES + view[2]
        codes[n, CELLS] = directions[n]


@loop
def hash_rows(rows: np.ndarray, keys: np.ndarray) -> None:
    """Write a 64-bit hash of each row [n, k] of whole numbers to keys [n] (FNV-1a by numbers, mixed once more)."""
    for n in range(len(rows)):
        key = np.uint64(0xCBF29CE484222325)
        for k in range(rows.shape[1]):
            key = (key ^ np.uint64(rows[n, k])) * np.uint64(0x100000001B3)
        keys[n] = key ^ (key >> np.uint64(29))


class GridworldCopies:
    """A MiniGrid task in compiled kernels; what is shown is the 7 × 7 view and the direction, as MiniGrid has them."""

    actions = 7

    def __init__(self, name: str, copies: int) -> None:
        self.worlds = Gridworlds(name, copies)
        self.copies, self.limit = copies, self.worlds.task.steps
        self.seen = grid_seen()
        self._codes, self._last = np.zeros((copies, CELLS + 1), np.uint8), np.zeros((copies, CELLS + 1), np.uint8)
        self._keys = np.zeros(copies, np.uint64)

    def reset(self, seed: int) -> None:
        """See `Environment`; first episodes are cut short at random, lest all copies begin anew together for ever."""
        self.worlds.reset(seed=seed)
        self.worlds.state.steps[:] = np.random.default_rng(seed).integers(0, self.limit, self.copies)

    def observe(self) -> np.ndarray:
        """Codes [n, 50]; the array is written anew at every call."""
        state = self.worlds.state
        grid_codes(state.views, state.agents[:, 2], self._codes)
        return self._codes

    def step(self, actions: np.ndarray) -> Step:
        """See `Environment`; the arrays are written anew at every call."""
        self.worlds.advance(actions)
        out = self.worlds.outcome
        grid_codes(out.last_views, out.last_directions, self._last)
        return Step(out.rewards, out.terminated, out.truncated, self._last)

    def keys(self, state: bool = False) -> np.ndarray:
        """See `Environment`; the whole state is the grid, the agent and what it carries."""
        if state:
            now = self.worlds.state
            rows = np.concatenate([now.cells.reshape(self.copies, -1), now.agents, now.carried[:, None]], axis=1)
        else:
            rows = self.observe()
        hash_rows(rows, self._keys)
        return self._keys

    def state_dict(self) -> dict[str, Any]:
        """Every array of the simulator."""
        return {name: array.tolist() for name, array in self.worlds.state._asdict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name, array in self.worlds.state._asdict().items():
            array[:] = np.array(state[name], array.dtype)


class GymnasiumCopies:
    """Any environment of Gymnasium's with discrete actions, whose observations are a box of numbers, one number of a
    few, MiniGrid's dictionary (whose mission is not read), or that of a task of goals, whose three rows follow each
    other."""

    def __init__(self, name: str, copies: int) -> None:
        self.name, self.copies = name, copies
        make_one = functools.partial(gymnasium.make, name, disable_env_checker=True)
        self.envs = SyncVectorEnv([make_one] * copies, autoreset_mode=AutoresetMode.SAME_STEP)
        space, actions = self.envs.single_observation_space, self.envs.single_action_space
        if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start:
            raise InputError(f"{name} takes actions of {actions}; agents here choose among numbered ones (Discrete).")
        self.actions = int(actions.n)
        self.limit = self.envs.envs[0].spec.max_episode_steps if self.envs.envs[0].spec else None
        self.low = self.high = None
        self.goal_size = 0
        if is_goal(space):
            assert isinstance(space, gymnasium.spaces.Dict)
            self.goal_size = int(np.prod(space["desired_goal"].shape or ()))
            low, high = (np.concatenate([getattr(space[name], end) for name in GOALS]) for end in ("low", "high"))
            space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.seen = seen_of(space, name)
        if self.seen.members is None:
            assert isinstance(space, gymnasium.spaces.Box)
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            bounded = (np.abs(low) < 1e6) & (np.abs(high) < 1e6)
            self.low, self.high = np.where(bounded, low, -5.0), np.where(bounded, high, 5.0)
        self._keys = np.zeros(copies, np.uint64)

    def rewards(self, achieved: np.ndarray, wished: np.ndarray) -> np.ndarray:
        """What a task of goals gives for what was achieved [n, size] of what was wished [n, size]: rewards [n]."""
        return self._own.compute_reward(achieved, wished, {})

    def ends(self, achieved: np.ndarray, wished: np.ndarray) -> np.ndarray:
        """Which of these end an episode of a task of goals [n]."""
        if not hasattr(self._own, "compute_terminated"):
            return np.zeros(len(achieved), bool)
        return self._own.compute_terminated(achieved, wished, {})

    @property
    def _own(self) -> Any:
        return self.envs.envs[0].unwrapped

    def reset(self, seed: int) -> None:
        """See `Environment`."""
        self._now = read_all(self.seen, self.envs.reset(seed=seed)[0])

    def observe(self) -> np.ndarray:
        """See `Environment`."""
        return self._now

    def step(self, actions: np.ndarray) -> Step:
        """See `Environment`. Raises `InputError` where the environment does, or gives what is not a number."""
        try:
            observation, rewards, terminated, truncated, info = self.envs.step(actions)
        except Exception as error:
            raise InputError(f"{self.name} failed: {type(error).__name__}: {error}. Mend it, and go on.") from error
        self._now = last = read_all(self.seen, observation)
        if "final_obs" in info:
            last = last.copy()
            for i in np.flatnonzero(info["_final_obs"]):
                last[i] = read(self.seen, info["final_obs"][i])[0]
        if not (np.isfinite(rewards).all() and np.isfinite(self._now).all()):
            raise InputError(f"{self.name} gave an observation or a reward that is not a finite number; mend it.")
        return Step(rewards.astype(np.float32), terminated, truncated, last)

    def keys(self, state: bool = False) -> np.ndarray:
        """See `Environment`; numbers are cut into `BINS` parts of their range, of [−5, 5] where that is not bounded."""
        if state:
            raise InputError(f"{self.name} does not show its whole state; let the bonus be on the observation.")
        rows = self._now
        if self.low is not None and self.high is not None:
            parts = np.floor((rows - self.low) / (self.high - self.low) * BINS)
            rows = np.clip(parts, -1, BINS).astype(np.int64) + 1
        hash_rows(rows, self._keys)
        return self._keys

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a simulator of Gymnasium's cannot be stored; a resumed run begins new episodes."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """New episodes have begun."""


def seen_of(space: gymnasium.Space[Any], name: str) -> Seen:
    """What observations in that space are made of. Raises `InputError` where no agent here can read them."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return Seen(np.arange(space.n).reshape(1, -1, 1), int(space.n))
    if is_view(space):
        return grid_seen()
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return Seen(None, space.shape[0])
    raise InputError(f"{name} shows {space}; agents here see a row of numbers, a number, or MiniGrid's view. Wrap it.")


def is_view(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are MiniGrid's: a view of 7 × 7 cells and a direction."""
    inner = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {}
    return {"image", "direction"} <= set(inner) and inner["image"].shape == (VIEW, VIEW, 3)


def is_goal(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are those of a task of goals, each a row of numbers."""
    inner = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {}
    return set(GOALS) <= set(inner) and all(len(inner[name].shape or ()) == 1 for name in GOALS)


def read_all(seen: Seen, observation: Any) -> np.ndarray:
    """Observations of several copies, as Gymnasium's vectors give them, as codes [n, columns] or floats [n, size]."""
    if isinstance(observation, dict) and GOALS[0] in observation:
        return np.concatenate([observation[name] for name in GOALS], axis=1).astype(np.float32)
    if isinstance(observation, dict):
        codes = np.zeros((len(observation["image"]), CELLS + 1), np.uint8)
        grid_codes(observation["image"], observation["direction"], codes)
        return codes
    return observation.astype(np.float32) if seen.members is None else observation[:, None].astype(np.int32)


def read(seen: Seen, observation: Any) -> np.ndarray:
    """One observation, as Gymnasium's environment gives it, as codes [1, columns] or floats [1, size]."""
    if isinstance(observation, dict):
        return read_all(seen, {name: np.asarray(part)[None] for name, part in observation.items()})
    return read_all(seen, np.asarray(observation)[None])
