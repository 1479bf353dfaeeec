"""Intrinsic rewards: what an agent is paid for what is new. Any agent takes any of them.

A bonus is told at every step the keys of what each copy shows (`Environment.keys`), the observations, and which copies
have just begun an episode; it answers with a reward for each copy, 0 for those. What it has counted or learned is its
state.
Here are those that count; `curiosity` has those that learn, and the names of all.
"""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gossamer_rl.gridworlds.cells import loop
from gossamer_rl.observations import Seen

LIFELONG = 1 << 20
LEAST_ROOM = 1 << 12


class Bonus(Protocol):
    """An intrinsic reward."""

    apart: bool
    """whether ppo values what it pays by itself, and beyond the ends of episodes (Burda et al. 2019)"""

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """The reward [n] of arriving at what is shown now: keys [n] uint64, observations [n, …], began [n] bool."""
        ...

    def take(self, actions: Tensor) -> None:
        """The actions [n] that lead to what is shown next."""
        ...

    def learn(self, observations: Tensor, actions: Tensor, ended: Tensor) -> None:
        """Take steps of all copies into what is known: observations [steps, n, …], the actions there, and ends."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...


@loop
def count_visits(
    found: np.ndarray, episodes: np.ndarray, counts: np.ndarray, episode: np.ndarray, keys: np.ndarray, out: np.ndarray
) -> None:
    """Count each copy's key in its episode: out[i] is the number of visits with this one.

    Open addressing in tables [n, room]; a slot whose episode is not the copy's is free. A full table counts 2.
    """
    room = found.shape[1]
    for i in range(len(keys)):
        slot = np.int64(keys[i] % np.uint64(room))
        out[i] = 2
        for _ in range(room):
            if episodes[i, slot] != episode[i]:
                episodes[i, slot], found[i, slot], counts[i, slot] = episode[i], keys[i], 0
            if found[i, slot] == keys[i]:
                counts[i, slot] += 1
                out[i] = counts[i, slot]
                break
            slot = (slot + 1) % room


class EpisodicCounts:
    """How often each copy has seen a key in its present episode."""

    def __init__(self, copies: int, limit: int | None) -> None:
        room = LEAST_ROOM if limit is None else max(64, 1 << (2 * limit).bit_length())
        self.found = np.zeros((copies, room), np.uint64)
        self.episodes, self.counts = np.zeros((copies, room), np.int32), np.zeros((copies, room), np.int32)
        self.episode, self.now = np.ones(copies, np.int32), np.zeros(copies, np.int32)

    def visit(self, keys: np.ndarray, began: np.ndarray) -> np.ndarray:
        """Count one visit of every copy [n]; how many that makes [n]."""
        self.episode += began
        count_visits(self.found, self.episodes, self.counts, self.episode, keys, self.now)
        return self.now

    def state_dict(self) -> dict[str, Any]:
        """The keys and counts of the episodes that go on."""
        live = self.episodes == self.episode[:, None]
        copies, slots = np.nonzero(live)
        return {
            "copies": torch.from_numpy(copies),
            "slots": torch.from_numpy(slots),
            "keys": torch.from_numpy(self.found[live].view(np.int64)),
            "counts": torch.from_numpy(self.counts[live]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.episodes[:], self.episode[:] = 0, 1
        where = state["copies"].numpy(), state["slots"].numpy()
        self.episodes[where] = 1
        self.found[where] = state["keys"].numpy().view(np.uint64)
        self.counts[where] = state["counts"].numpy()


class FirstVisit:
    """1 for what this episode has not shown yet: the episodic half of RIDE and NovelD (Henaff et al. 2023)."""

    apart = False

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        self.counts = EpisodicCounts(copies, limit)

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """1[N_e(o) = 1]."""
        return (self.counts.visit(keys, began) == 1) & ~began

    def take(self, actions: Tensor) -> None:
        """What was done does not matter."""

    def learn(self, observations: Tensor, actions: Tensor, ended: Tensor) -> None:
        """There is nothing to learn."""

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return self.counts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.counts.load_state_dict(state)


class EpisodicCount(FirstVisit):
    """1 / √N_e(o), N_e the visits in this episode."""

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """1 / √N_e(o)."""
        return ~began / np.sqrt(self.counts.visit(keys, began))


class LifelongFirstVisit(FirstVisit):
    """1[N_e(o) = 1] / √N(o): new in this episode, and rare in all; a product as in NGU (Badia et al. 2020).

    N counts the visits of all episodes in a table of 2²⁰ by the key (#Exploration, Tang et al. 2017).
    """

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.visits = np.zeros(LIFELONG, np.int64)

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """1[N_e(o) = 1] / √N(o)."""
        return super().__call__(keys, observations, began) / np.sqrt(self.lifelong(keys))

    def lifelong(self, keys: np.ndarray) -> np.ndarray:
        """Count one visit of every copy [n]; how many those make in all episodes [n]."""
        slots = (keys % np.uint64(LIFELONG)).astype(np.int64)
        np.add.at(self.visits, slots, 1)
        return self.visits[slots]

    def state_dict(self) -> dict[str, Any]:
        """With the lifelong counts."""
        used = np.flatnonzero(self.visits)
        lifelong = {"slots": torch.from_numpy(used), "visits": torch.from_numpy(self.visits[used])}
        return {**super().state_dict(), "lifelong": lifelong}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """With the lifelong counts."""
        super().load_state_dict(state)
        self.visits[:] = 0
        self.visits[state["lifelong"]["slots"].numpy()] = state["lifelong"]["visits"].numpy()


class Count(LifelongFirstVisit):
    """1 / √N(o), N the visits of all episodes, in a table of 2²⁰ by the key (#Exploration, Tang et al. 2017)."""

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """1 / √N(o)."""
        return ~began / np.sqrt(self.lifelong(keys))
