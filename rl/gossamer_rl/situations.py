"""What is paid for a situation that is new: which kinds of things an agent sees, in which states, and what it carries.

Their interface is that of `exploration`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer_rl.exploration import FirstVisit, LifelongFirstVisit
from gossamer_rl.gridworlds.cells import COLOURS, DOOR, loop
from gossamer_rl.gridworlds.rules import VIEW
from gossamer_rl.observations import CELLS, OBJECTS, STATES, Seen, hashed

HERE = VIEW // 2 * VIEW + VIEW - 1
"""the cell of a view where the agent stands, which shows what it carries"""
MEMORY = 1000
"""steps over which a bonus has its running mean, by which it is divided"""


@loop
def situations(codes: np.ndarray, found: np.ndarray) -> None:
    """Of views, codes [n, 49 or more]: which kinds of things from doors on are seen in which state, 0 or 1, and last
    the kind of what is carried, or of an empty cell [n, 34]. Colours, places and numbers of things do not matter."""
    found[:] = 0
    for n in range(len(codes)):
        for cell in range(CELLS):
            kind, state = codes[n, cell] // (COLOURS * STATES), codes[n, cell] % STATES
            if cell == HERE:
                found[n, OBJECTS * STATES] = kind
            elif kind >= DOOR:
                found[n, kind * STATES + state] = 1


class Situation(LifelongFirstVisit):
    """1[N_e(s) = 1] / √N(s), s the situation in view: what the episode has not come to yet, and all seldom have.

    There are a few hundred situations where there are millions of views: what the agent can bring about, a key taken or
    a door opened, is not lost among the places from which it can be looked at. What is no view counts by its key.
    """

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        super().__init__(copies, limit, seen, actions, generator)
        self.views = seen.members is not None and len(seen.members) > CELLS
        self.found = np.zeros((copies, OBJECTS * STATES + 1), np.int64)

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """1[N_e(s) = 1] / √N(s)."""
        if self.views:
            situations(observations.numpy(), self.found)
            keys = hashed(self.found)
        return super().__call__(keys, observations, began)


class ViewAndSituation(FirstVisit):
    """½ b / b̄ + ½ s / s̄: the lifelong first visits of what is shown, b, and of the situation, s, over their means."""

    def __init__(self, copies: int, limit: int | None, seen: Seen, actions: int, generator: torch.Generator) -> None:
        self.parts = [kind(copies, limit, seen, actions, generator) for kind in (LifelongFirstVisit, Situation)]
        self.means = np.array([0.2, 0.02])

    def __call__(self, keys: np.ndarray, observations: Tensor, began: np.ndarray) -> np.ndarray:
        """The mean of both over their running means."""
        paid = np.stack([part(keys, observations, began) for part in self.parts])
        self.means += (paid.mean(1) - self.means) / MEMORY
        return (paid / np.maximum(self.means, 1e-6)[:, None]).mean(0)

    def state_dict(self) -> dict[str, Any]:
        """Both, and their means."""
        return {"parts": [part.state_dict() for part in self.parts], "means": self.means.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)
        self.means = np.array(state["means"])
