"""Self-imitation (Oh et al. 2018): an agent learns again from steps of its own that went better than it expects."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gossamer_rl.gridworlds.cells import loop
from gossamer_rl.observations import Seen
from gossamer_rl.replay import EXPONENT, find, put_priorities, stored

VALUE = 0.01
"""weight of the value's part of the loss"""
ARRAYS = ("rewards", "ended", "returns", "tree")
TENSORS = ("observations", "actions", "states")


@loop
def look_back(
    rewards: np.ndarray, ended: np.ndarray, returns: np.ndarray, row: int, oldest: int, copy: int, discount: float
) -> int:
    """Write Σ γᵏ rₖ of the episode that ends at that row of [rows, copies]; return its first row that is kept."""
    total = 0.0
    while True:
        total = rewards[row, copy] + discount * total
        returns[row, copy] = total
        before = (row - 1) % len(rewards)
        if row == oldest or ended[before, copy]:
            return row
        row = before


class Better(NamedTuple):
    """Sequences of steps, [length, n] or [length, n, …]: their returns, −inf where not known; states [n, …] before."""

    slots: np.ndarray
    observations: Tensor
    actions: Tensor
    returns: Tensor
    ended: Tensor
    states: Tensor


class SelfImitation:
    """The last `room` steps of all copies in sequences of `length`, and what whole episodes gave from each step on.

    Sequences are drawn by priority, the mean of (R − V)₊ ᵅ; R is the task's own return, and known of episodes that came
    to their end: one that is cut off has none.
    """

    def __init__(self, room: int, copies: int, seen: Seen, length: int, discount: float, begin: Tensor) -> None:
        self.length, self.copies, self.discount = length, copies, discount
        self.sequences = max(2, room // (copies * length))
        shape = (self.sequences * length, copies)
        self.observations = stored(shape, seen)
        self.actions = torch.zeros(shape, dtype=torch.int64)
        self.states = torch.zeros(self.sequences, *begin.shape)
        self.rewards, self.ended = np.zeros(shape, np.float32), np.ones(shape, bool)
        self.returns = np.full(shape, -np.inf, np.float32)
        self.tree = np.zeros(2 << (self.sequences * copies - 1).bit_length())
        self.written = 0

    def add(
        self,
        observations: Tensor,
        actions: Tensor,
        rewards: np.ndarray,
        terminated: np.ndarray,
        ended: np.ndarray,
        state: Tensor,
    ) -> None:
        """Take in a step of all copies: the task's rewards [copies], and the agent's state [copies, …] before it."""
        row = self.written % len(self.returns)
        sequence = row // self.length
        if row % self.length == 0:
            self.states[sequence] = state.cpu()
            self._set(sequence * self.copies + np.arange(self.copies), np.zeros(self.copies))
            self.returns[row : row + self.length] = -np.inf
        self.observations[row], self.actions[row] = observations.cpu(), actions.cpu()
        self.rewards[row], self.ended[row] = rewards, ended
        self.written += 1
        oldest = (sequence + 1) * self.length % len(self.returns) if self.written > len(self.returns) else 0
        for copy in np.flatnonzero(terminated).tolist():
            first = look_back(self.rewards, self.ended, self.returns, row, oldest, copy, self.discount)
            count = (sequence - first // self.length) % self.sequences + 1
            touched = (sequence - np.arange(count)) % self.sequences
            found = self.returns.reshape(self.sequences, self.length, self.copies)[touched, :, copy]
            self._set(touched * self.copies + copy, found.clip(0).mean(1))

    def _set(self, slots: np.ndarray, better: np.ndarray) -> None:
        put_priorities(self.tree, slots, better.astype(np.float64) ** EXPONENT)

    def draw(self, count: int, generator: torch.Generator) -> Better | None:
        """`count` sequences, those of large priority more often; None where no episode has given anything."""
        if self.tree[1] <= 0:
            return None
        marks = (torch.arange(count) + torch.rand(count, generator=generator)).numpy() / count
        slots = np.zeros(count, np.int64)
        find(self.tree, marks, slots)
        sequence, copy = slots // self.copies, slots % self.copies
        rows = sequence * self.length + np.arange(self.length)[:, None]
        return Better(
            slots,
            self.observations[rows, copy],
            self.actions[rows, copy],
            torch.from_numpy(self.returns[rows, copy]),
            torch.from_numpy(self.ended[rows, copy]),
            self.states[sequence, copy],
        )

    def note(self, slots: np.ndarray, better: Tensor) -> None:
        """What (R − V)₊ of drawn sequences [length, n] is now."""
        self._set(slots, better.detach().mean(0).cpu().numpy())

    def state_dict(self) -> dict[str, Any]:
        """Everything that is remembered."""
        arrays = {name: torch.from_numpy(getattr(self, name)) for name in ARRAYS}
        return {**arrays, **{name: getattr(self, name) for name in TENSORS}, "written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in ARRAYS:
            getattr(self, name)[:] = state[name].numpy()
        for name in TENSORS:
            getattr(self, name).copy_(state[name])
        self.written = state["written"]


def imitation_loss(log_probabilities: Tensor, values: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """mean −log π(a | o) (R − V)₊ + `VALUE` ½ (R − V)₊², the first without gradients to V; and (R − V)₊."""
    better = (returns - values).clamp(min=0)
    return (VALUE * better.square() / 2 - log_probabilities * better.detach()).mean(), better
