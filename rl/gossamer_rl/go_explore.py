"""Return to a frontier (Go-Explore, Ecoffet et al. 2021): some episodes begin where few have come, by restoring it.

That the simulator can be restored, and that its grid is read, are privileges; results name them.
"""

from typing import Any

import numpy as np
import torch

from gossamer import InputError
from gossamer_rl.environments import Environment, GridworldCopies
from gossamer_rl.gridworlds.cells import BALL, BOX, DOOR, KEY, loop
from gossamer_rl.observations import hashed

SLOTS, ROOM = 1024, 32
"""situations, by their hash; states kept of each, the last ones"""
KINDS, STATES = 16, 4


@loop
def situations(cells: np.ndarray, carried: np.ndarray, counts: np.ndarray) -> None:
    """Of grids [n, width, height]: how many doors are open, closed and locked, how many keys, balls and boxes lie
    about, and what kind is carried [n]; counts is [n, 16 · 4 + 1]."""
    counts[:] = 0
    for n in range(len(cells)):
        for x in range(cells.shape[1]):
            for y in range(cells.shape[2]):
                kind = cells[n, x, y] & 15
                if kind in (DOOR, KEY, BALL, BOX):
                    counts[n, kind * STATES + ((cells[n, x, y] >> 8) & 3)] += 1
        counts[n, -1] = carried[n] & 15


class GoExplore:
    """States in which a thing has just been moved, opened or taken, and episodes that begin in them anew.

    A situation is what `situations` counts: it knows neither colours nor places, and so is the same in all layouts. A
    copy that comes from one situation into another is remembered there. Of the episodes that begin, `share` are begun
    in a remembered state, its situation drawn by 1 / √(N + 1), N the arrivals there, with all of an episode's time. The
    return is what explores there: `Experience` pays them no bonus, which would outweigh the task's reward.
    """

    def __init__(self, environment: Environment, share: float, generator: torch.Generator) -> None:
        if not isinstance(environment, GridworldCopies):
            raise InputError(
                "frontier needs an environment that can be restored: one of the gridworlds; leave it at 0."
            )
        self.environment, self.share, self.generator = environment, share, generator
        copies, own = environment.copies, environment.worlds.state._asdict()
        self.arrivals = np.zeros(SLOTS, np.int64)
        self.states = {
            name: np.zeros((SLOTS, ROOM, *array.shape[1:]), array.dtype)
            for name, array in own.items()
            if name not in ("random", "steps")
        }
        self._counts = np.zeros((copies, KINDS * STATES + 1), np.int64)
        self.returned, self.slots = np.zeros(copies, bool), self.now()

    def now(self) -> np.ndarray:
        """The situation of each copy, as a slot [n]."""
        state = self.environment.worlds.state
        situations(state.cells, state.carried, self._counts)
        return (hashed(self._counts) % np.uint64(SLOTS)).astype(np.int64)

    def step(self, began: np.ndarray) -> None:
        """Remember what copies have come to; begin some of the episodes that `began` [n] anew where few have been."""
        now, own = self.now(), self.environment.worlds.state._asdict()
        for i in np.flatnonzero((now != self.slots) & ~began):
            place = self.arrivals[now[i]] % ROOM
            self.arrivals[now[i]] += 1
            for name, kept in self.states.items():
                kept[now[i], place] = own[name][i]
        self.returned &= ~began
        known = np.flatnonzero(self.arrivals)
        for i in np.flatnonzero(began).tolist() if len(known) else ():
            if torch.rand((), generator=self.generator) < self.share:
                self.returned[i] = True
                now[i] = self._restore(i, known)
        self.slots = now

    def _restore(self, copy: int, known: np.ndarray) -> int:
        """Put the copy into a state of one of the known situations; the situation."""
        weights = torch.from_numpy((self.arrivals[known] + 1.0) ** -0.5)
        slot = int(known[int(torch.multinomial(weights, 1, generator=self.generator))])
        kept = min(int(self.arrivals[slot]), ROOM)
        place = int(torch.randint(kept, (), generator=self.generator))
        for name, array in self.environment.worlds.state._asdict().items():
            if name in self.states:
                array[copy] = self.states[name][slot, place]
        self.environment.worlds.state.steps[copy] = 0
        return slot

    def state_dict(self) -> dict[str, Any]:
        """All that is remembered of situations that were met."""
        known = np.flatnonzero(self.arrivals)
        names = ("arrivals", "returned", "slots")
        return {
            "states": {name: torch.from_numpy(kept[known]) for name, kept in self.states.items()},
            **{name: torch.from_numpy(getattr(self, name).copy()) for name in names},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in ("arrivals", "returned", "slots"):
            setattr(self, name, state[name].numpy().copy())
        known = np.flatnonzero(self.arrivals)
        for name, kept in self.states.items():
            kept[known] = state["states"][name].numpy()
