"""Environments as agents see them: many copies, observations as codes or floats, and a key for what counts as new.

MiniGrid's tasks run as compiled kernels (`gridworlds`); any other environment of Gymnasium's with discrete actions runs
behind its own vector interface.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import gymnasium
import minigrid  # noqa: F401  it registers its ids with Gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FlattenObservation

from gossamer import InputError
from gossamer.errors import nearest
from gossamer_rl import bitflip, deepsea  # noqa: F401  as minigrid
from gossamer_rl.gridworlds import TASKS, Gridworlds
from gossamer_rl.observations import (
    BINS,
    CELLS,
    GOALS,
    Seen,
    grid_codes,
    grid_seen,
    hashed,
    is_goal,
    read_all,
    read_one,
    seen_of,
)

EVALUATION_SEEDS = range(10_000)
LONGEST = 10_000
"""steps of an episode where an environment sets no limit"""


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


def one(name: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """That environment of Gymnasium's, its episodes cut after `LONGEST` steps where it has no limit of its own. Raises
    `InputError` where it cannot be made."""
    limit = gymnasium.spec(name).max_episode_steps or LONGEST
    try:
        return gymnasium.make(name, disable_env_checker=True, max_episode_steps=limit, **options)
    except (gymnasium.error.Error, ImportError) as error:
        raise InputError(f"{name} cannot be made: {error}") from error


def flat(name: str) -> gymnasium.Env[Any, Any]:
    """The same, with observations of several parts as one row."""
    own = one(name)
    return FlattenObservation(own) if seen_of(own.observation_space, name).space else own


class GridworldCopies:
    """A MiniGrid task in compiled kernels; what is shown is the 7 × 7 view and the direction, as MiniGrid has them."""

    actions = 7

    def __init__(self, name: str, copies: int) -> None:
        self.worlds = Gridworlds(name, copies)
        self.copies, self.limit = copies, self.worlds.task.steps
        self.seen = grid_seen()
        self._codes, self._last = np.zeros((copies, CELLS + 1), np.uint8), np.zeros((copies, CELLS + 1), np.uint8)

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
        if not state:
            return hashed(self.observe())
        now = self.worlds.state
        return hashed(np.concatenate([now.cells.reshape(self.copies, -1), now.agents, now.carried[:, None]], axis=1))

    def state_dict(self) -> dict[str, Any]:
        """Every array of the simulator."""
        return {name: array.tolist() for name, array in self.worlds.state._asdict().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name, array in self.worlds.state._asdict().items():
            array[:] = np.array(state[name], array.dtype)


@contextmanager
def answering(name: str) -> Iterator[None]:
    """Raise `InputError` where what is done with that environment raises anything."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name} failed: {type(error).__name__}: {error}. Mend it, and go on.") from error


def finite(name: str, numbers: np.ndarray) -> np.ndarray:
    """Those numbers. Raises `InputError` where one is not finite."""
    if not np.isfinite(numbers).all():
        raise InputError(f"{name} gave an observation or a reward that is not a finite number; mend it.")
    return numbers


class GymnasiumCopies:
    """Any environment of Gymnasium's with discrete actions, whose observations are one number of a few, MiniGrid's
    dictionary, or numbers in any arrangement of a fixed size, which are read as a row; of a task of goals, the three
    follow each other."""

    def __init__(self, name: str, copies: int) -> None:
        self.name, self.copies = name, copies
        self.envs = SyncVectorEnv([functools.partial(flat, name)] * copies, autoreset_mode=AutoresetMode.SAME_STEP)
        own, actions = self.envs.envs[0], self.envs.single_action_space
        shown = (own.env if isinstance(own, FlattenObservation) else own).observation_space
        if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start:
            raise InputError(f"{name} takes actions of {actions}; agents here choose among numbered ones (Discrete).")
        self.actions = int(actions.n)
        self.limit = gymnasium.spec(name).max_episode_steps
        self.seen = seen_of(shown, name)
        self.goal_size, self.low, self.high = 0, None, None
        space = own.observation_space
        if is_goal(space):
            self.goal_size = int(np.prod(space["desired_goal"].shape or ()))
        if self.seen.members is None:
            boxes = [space[name] for name in GOALS] if is_goal(space) else [space]
            low, high = (np.concatenate([getattr(box, end).ravel() for box in boxes]) for end in ("low", "high"))
            low, high = low.astype(np.float64), high.astype(np.float64)
            bounded = (np.abs(low) < 1e6) & (np.abs(high) < 1e6)
            self.low, self.high = np.where(bounded, low, -5.0), np.where(bounded, high, 5.0)

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
        """See `Environment`. Raises `InputError` as `step` does."""
        with answering(self.name):
            self._now = finite(self.name, read_all(self.seen, self.envs.reset(seed=seed)[0]))

    def observe(self) -> np.ndarray:
        """See `Environment`."""
        return self._now

    def step(self, actions: np.ndarray) -> Step:
        """See `Environment`. Raises `InputError` where the environment does, or gives what is not a number."""
        with answering(self.name):
            observation, rewards, terminated, truncated, info = self.envs.step(actions)
        self._now = last = finite(self.name, read_all(self.seen, observation))
        if "final_obs" in info:
            last = last.copy()
            for i in np.flatnonzero(info["_final_obs"]):
                last[i] = finite(self.name, read_one(self.seen, info["final_obs"][i])[0])
        return Step(finite(self.name, rewards).astype(np.float32), terminated, truncated, last)

    def keys(self, state: bool = False) -> np.ndarray:
        """See `Environment`; numbers are cut into `BINS` parts of their range, of [−5, 5] where that is not bounded."""
        if state:
            raise InputError(f"{self.name} does not show its whole state; let the bonus be on the observation.")
        if self.low is None or self.high is None:
            return hashed(self._now)
        parts = np.floor((self._now - self.low) / (self.high - self.low) * BINS)
        return hashed(np.clip(parts, -1, BINS).astype(np.int64) + 1)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a simulator of Gymnasium's cannot be stored; a resumed run begins new episodes."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """New episodes have begun."""
