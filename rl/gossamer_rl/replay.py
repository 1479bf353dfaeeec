"""What a learner remembers of many steps, drawn by priority (Schaul et al. 2016), with returns of several steps."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gossamer_rl.gridworlds.cells import loop
from gossamer_rl.observations import Seen

EXPONENT = 0.6
"""α: priorities are errors to this power"""
FLOOR = 1e-3
"""what is added to an error, lest it is never drawn again"""


@loop
def put_priorities(tree: np.ndarray, slots: np.ndarray, priorities: np.ndarray) -> None:
    """Set leaves of a heap of sums [2 · leaves], whose root is tree[1]."""
    for slot, priority in zip(slots, priorities):  # noqa: B905  Numba's zip knows no `strict`
        node = slot + len(tree) // 2
        tree[node] = priority
        while node > 1:
            node //= 2
            tree[node] = tree[2 * node] + tree[2 * node + 1]


@loop
def find(tree: np.ndarray, marks: np.ndarray, slots: np.ndarray) -> None:
    """slots[i] is the leaf at which the sum of the leaves from the left first exceeds marks[i] · their sum."""
    for i in range(len(marks)):
        node, left = 1, marks[i] * tree[1]
        while node < len(tree) // 2:
            node *= 2
            if left >= tree[node] and tree[node + 1] > 0:
                left -= tree[node]
                node += 1
        slots[i] = node - len(tree) // 2


@loop
def sum_ahead(
    rewards: np.ndarray,
    terminated: np.ndarray,
    ended: np.ndarray,
    slots: np.ndarray,
    several: int,
    discount: float,
    sums: np.ndarray,
    lasts: np.ndarray,
    factors: np.ndarray,
) -> None:
    """Of steps in [rows, copies], flat `slots`: Σₖ γᵏ rₖ over at most `several` steps of the episode, the slot of the
    last of them, and γᵏ for the value of what it led to, 0 where that was the end."""
    rows, copies = rewards.shape
    for i in range(len(slots)):
        row, copy = slots[i] // copies, slots[i] % copies
        sums[i], factors[i] = 0.0, 1.0
        for _ in range(several):
            sums[i] += factors[i] * rewards[row, copy]
            factors[i] *= discount
            lasts[i] = row * copies + copy
            if ended[row, copy]:
                break
            row = (row + 1) % rows
        if terminated[lasts[i] // copies, copy]:
            factors[i] = 0.0


def stored(shape: tuple[int, ...], seen: Seen) -> Tensor:
    """Room for observations [*shape, …], as small as what is seen allows."""
    if seen.members is None:
        return torch.zeros(*shape, seen.size)
    kind = torch.uint8 if seen.members.shape[1] <= 256 else torch.int32
    return torch.zeros(*shape, len(seen.members), dtype=kind)


class Batch(NamedTuple):
    """Steps that were drawn, each [n] or [n, …]. To be learned: sums + factors · the value of `beyond`."""

    slots: np.ndarray
    weights: Tensor
    observations: Tensor
    actions: Tensor
    sums: Tensor
    factors: Tensor
    beyond: Tensor


class Replay:
    """The last `room` steps of all copies, of which `draw` gives some, those of large error more often."""

    def __init__(self, room: int, copies: int, seen: Seen, several: int, discount: float) -> None:
        self.rows, self.copies = max(room // copies, several + 1), copies
        self.several, self.discount = several, discount
        shape = (self.rows, copies)
        self.observations, self.beyond = stored(shape, seen), stored(shape, seen)
        self.actions, self.rewards = torch.zeros(shape, dtype=torch.int64), np.zeros(shape, np.float32)
        self.terminated, self.ended = np.zeros(shape, bool), np.zeros(shape, bool)
        self.tree = np.zeros(2 << (self.rows * copies - 1).bit_length())
        self.written, self.forgotten, self.largest = 0, 0, 1.0

    def __len__(self) -> int:
        return max(0, self.written - self.first - self.several + 1) * self.copies

    @property
    def first(self) -> int:
        """The oldest step that is remembered, of all that were written."""
        return max(self.forgotten, self.written - self.rows)

    def add(
        self,
        observations: Tensor,
        actions: Tensor,
        rewards: np.ndarray,
        terminated: np.ndarray,
        ended: np.ndarray,
        beyond: Tensor,
    ) -> None:
        """Take in a step of all copies: `beyond` [copies, …] is what it led to, the last observation of an episode."""
        row = self.written % self.rows
        self.observations[row], self.beyond[row], self.actions[row] = observations, beyond, actions
        self.rewards[row], self.terminated[row], self.ended[row] = rewards, terminated, ended
        self.written += 1
        self._set(row, 0.0)
        if self.written >= self.several:
            self._set((row + 1 - self.several) % self.rows, self.largest)

    def _set(self, row: int, priority: float) -> None:
        slots = row * self.copies + np.arange(self.copies)
        put_priorities(self.tree, slots, np.full(self.copies, priority))

    def oldest(self, steps: int) -> tuple[Tensor, Tensor]:
        """The oldest steps of all copies that are remembered: observations [steps · copies, …], and the actions."""
        rows = torch.arange(self.first, self.first + steps) % self.rows
        return self.observations[rows].flatten(0, 1), self.actions[rows].flatten()

    def forget(self, steps: int) -> None:
        """Draw the oldest steps of all copies no more."""
        for step in range(self.first, self.first + steps):
            self._set(step % self.rows, 0.0)
        self.forgotten = self.first + steps

    def draw(self, count: int, correction: float, generator: torch.Generator, several: int | None = None) -> Batch:
        """`count` steps and their weights (N P)^−β over the largest, β the `correction` in [0, 1]; returns of at most
        `several` steps, as many as the replay's where none are given."""
        marks = (torch.arange(count) + torch.rand(count, generator=generator)).numpy() / count
        slots, lasts = np.zeros(count, np.int64), np.zeros(count, np.int64)
        sums, factors = np.zeros(count, np.float32), np.zeros(count, np.float32)
        find(self.tree, marks, slots)
        several = self.several if several is None else several
        sum_ahead(self.rewards, self.terminated, self.ended, slots, several, self.discount, sums, lasts, factors)
        likely = self.tree[slots + len(self.tree) // 2] / self.tree[1] * len(self)
        weights = (likely / likely.min()) ** -correction
        return Batch(
            slots,
            torch.from_numpy(weights).float(),
            self.observations.flatten(0, 1)[slots],
            self.actions.flatten()[slots],
            torch.from_numpy(sums),
            torch.from_numpy(factors),
            self.beyond.flatten(0, 1)[lasts],
        )

    def note(self, slots: np.ndarray, errors: Tensor) -> None:
        """The errors [n] of steps that were drawn, from which their priorities come."""
        priorities = (errors.abs().double().numpy() + FLOOR) ** EXPONENT
        self.largest = max(self.largest, float(priorities.max()))
        put_priorities(self.tree, slots, priorities)

    def state_dict(self) -> dict[str, Any]:
        """Everything that is remembered."""
        arrays = {name: torch.from_numpy(getattr(self, name)) for name in ("rewards", "terminated", "ended", "tree")}
        tensors = {name: getattr(self, name) for name in ("observations", "beyond", "actions")}
        return {**arrays, **tensors, "written": self.written, "forgotten": self.forgotten, "largest": self.largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in ("rewards", "terminated", "ended", "tree"):
            getattr(self, name)[:] = state[name].numpy()
        for name in ("observations", "beyond", "actions"):
            getattr(self, name).copy_(state[name])
        self.written, self.forgotten, self.largest = state["written"], state["forgotten"], state["largest"]
