"""What environments show, as agents read it: codes or floats, and a key for what counts as new."""

import functools
from typing import Any, NamedTuple, TypeGuard

import gymnasium
import numpy as np
from minigrid.core.mission import MissionSpace

from gossamer import InputError
from gossamer_rl.gridworlds.cells import COLOURS, loop
from gossamer_rl.gridworlds.rules import VIEW

OBJECTS, STATES = 11, 3
CODES = OBJECTS * COLOURS * STATES
CELLS = VIEW * VIEW
GOALS = ("observation", "achieved_goal", "desired_goal")
"""what an environment of goals shows, in this order"""
BINS = 16
"""in how many parts the range of a number is cut, for its key"""
_WORDS = (
    "a the go to get fetch pick up put near next open door key ball box object red green blue purple yellow grey and "
    "then after you on your left right in front of behind must"
)
WORDS = _WORDS.split()
"""what MiniGrid's and BabyAI's missions are made of"""
LONGEST = 16
"""how many words of a mission are read"""


class Seen(NamedTuple):
    """What an observation is made of, per copy: `members` as `OneHotLinear` wants them, for codes; or `size` floats,
    into which Gymnasium flattens what comes from a composed `space`."""

    members: np.ndarray | None
    size: int
    space: gymnasium.Space[Any] | None = None


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


def grid_seen(mission: bool = False) -> Seen:
    """What MiniGrid's view and direction are made of and, where the mission is read, its words, each by its place."""
    members = grid_members()
    size = int(members.max()) + 1
    if mission:
        known = len(WORDS) + 2  # none, and another word
        words = np.full((LONGEST, CODES, 3), -1)
        words[:, :known, 0] = size + np.arange(LONGEST * known).reshape(LONGEST, known)
        members, size = np.concatenate([members, words]), size + LONGEST * known
    return Seen(members, size)


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


def hashed(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash [n] of each row [n, k]."""
    keys = np.zeros(len(rows), np.uint64)
    hash_rows(rows, keys)
    return keys


def seen_of(space: gymnasium.Space[Any], name: str) -> Seen:
    """What observations in that space are made of. Raises `InputError` where no agent here can read them."""
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return Seen(np.arange(space.n).reshape(1, -1, 1), int(space.n))
    if is_view(space):
        mission = space["mission"]
        return grid_seen(mission=type(mission) is not MissionSpace or bool(mission.ordered_placeholders))
    if is_goal(space):
        return Seen(None, sum(int(np.prod(space[name].shape or ())) for name in GOALS))
    if not space.is_np_flattenable:
        raise InputError(f"{name} shows {space}, which is not of a fixed size; wrap it into numbers.")
    size = int(np.prod(gymnasium.spaces.flatten_space(space).shape or ()))
    return Seen(None, size, None if isinstance(space, gymnasium.spaces.Box) else space)


def is_view(space: gymnasium.Space[Any]) -> TypeGuard[gymnasium.spaces.Dict]:
    """Whether observations are MiniGrid's: a view of 7 × 7 cells, a direction, and a mission."""
    inner = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {}
    return {"image", "direction", "mission"} == set(inner) and inner["image"].shape == (VIEW, VIEW, 3)


def is_goal(space: gymnasium.Space[Any]) -> TypeGuard[gymnasium.spaces.Dict]:
    """Whether observations are those of a task of goals, each a row of numbers."""
    inner = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {}
    return set(GOALS) <= set(inner) and all(len(inner[name].shape or ()) == 1 for name in GOALS)


def words_of(mission: str) -> list[int]:
    """The codes [LONGEST] of its first words: 0 for none, 1 for one that is not among `WORDS`."""
    words = mission.lower().replace(",", " ").split()[:LONGEST]
    codes = [WORDS.index(word) + 2 if word in WORDS else 1 for word in words]
    return codes + [0] * (LONGEST - len(codes))


def read_all(seen: Seen, observation: Any) -> np.ndarray:
    """Observations of several copies, as Gymnasium's vectors give them, as codes [n, columns] or floats [n, size]."""
    if seen.members is None:
        parts = [observation[name] for name in GOALS] if isinstance(observation, dict) else [observation]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(np.float32)
    if not isinstance(observation, dict):
        return observation[:, None].astype(np.int32)
    codes = np.zeros((len(observation["image"]), len(seen.members)), np.uint8)
    grid_codes(observation["image"], observation["direction"], codes)
    if len(seen.members) > CELLS + 1:
        codes[:, CELLS + 1 :] = [words_of(mission) for mission in observation["mission"]]
    return codes


def read_one(seen: Seen, observation: Any) -> np.ndarray:
    """One observation, flattened if it had several parts, as codes [1, columns] or floats [1, size]."""
    if isinstance(observation, dict):
        return read_all(seen, {name: np.asarray(part)[None] for name, part in observation.items()})
    return read_all(seen, np.asarray(observation)[None])


def read(seen: Seen, observation: Any) -> np.ndarray:
    """One observation, as Gymnasium's environment gives it, as codes [1, columns] or floats [1, size]."""
    return read_one(seen, gymnasium.spaces.flatten(seen.space, observation) if seen.space is not None else observation)
