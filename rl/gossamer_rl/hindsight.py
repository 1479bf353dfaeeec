"""Hindsight experience replay (Andrychowicz et al. 2017): what was reached later is taken for what was wished."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from gossamer import InputError
from gossamer_rl.gridworlds.cells import loop
from gossamer_rl.observations import Seen
from gossamer_rl.replay import Batch, Replay

SHARE = 0.8
"""of the steps drawn that get another goal: four for each that keeps its own"""


class Goals(NamedTuple):
    """Of an environment of goals: how many numbers a goal has, which are the last of an observation, after what was
    achieved; the rewards [n] and the ends [n] of achieved and wished [n, size]."""

    size: int
    rewards: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ends: Callable[[np.ndarray, np.ndarray], np.ndarray]


@loop
def some_later(ended: np.ndarray, slots: np.ndarray, newest: int, chances: np.ndarray, later: np.ndarray) -> None:
    """later[i] is a slot of the same episode, from slots[i] on to its end or the newest row, at chances[i] in [0, 1)
    of the way; `ended` is [rows, copies], a slot row · copies + copy."""
    rows, copies = ended.shape
    for i in range(len(slots)):
        row, copy, steps = slots[i] // copies, slots[i] % copies, 1
        last = row
        while not ended[last, copy] and last != newest:
            last, steps = (last + 1) % rows, steps + 1
        later[i] = (row + np.int64(chances[i] * steps)) % rows * copies + copy


class Hindsight(Replay):
    """A replay of which four steps in five are told that they were to reach what their episode reached later."""

    def __init__(self, room: int, copies: int, seen: Seen, several: int, discount: float, goals: Goals | None) -> None:
        if goals is None:
            raise InputError("hindsight is for environments of goals (observation, achieved_goal, desired_goal).")
        if several != 1:
            raise InputError(f"several is {several}; with hindsight it must be 1: the rewards of one step change.")
        super().__init__(room, copies, seen, several, discount)
        self.goals = goals

    def draw(self, count: int, correction: float, generator: torch.Generator, several: int | None = None) -> Batch:
        """As `Replay.draw`; then goals, rewards and ends of some steps are changed."""
        batch = super().draw(count, correction, generator, several)
        chances, size = torch.rand(2, count, generator=generator).numpy(), self.goals.size
        later = np.zeros(count, np.int64)
        some_later(self.ended, batch.slots, (self.written - 1) % self.rows, chances[0], later)
        changed = torch.from_numpy(chances[1] < SHARE)
        wished = self.beyond.flatten(0, 1)[later, -2 * size : -size]
        for shown in (batch.observations, batch.beyond):
            shown[changed, -size:] = wished[changed]
        achieved = batch.beyond[:, -2 * size : -size].numpy()
        rewards = torch.from_numpy(np.asarray(self.goals.rewards(achieved, wished.numpy()), np.float32))
        ends = torch.from_numpy(np.asarray(self.goals.ends(achieved, wished.numpy()), bool))
        batch.sums[changed] = rewards[changed]
        batch.factors[changed] = (self.discount * ~ends).float()[changed]
        return batch
