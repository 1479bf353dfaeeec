"""Episodes that a policy plays, on layouts that no training saw."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gossamer_rl.environments import GridworldCopies, make, one
from gossamer_rl.gridworlds import TASKS
from gossamer_rl.gridworlds.stock import put, stock
from gossamer_rl.observations import Seen, read

Logits = Callable[[np.ndarray, Tensor | None], tuple[Tensor, Tensor | None]]
"""logits of what is seen, and the state of an agent with memory: None at the beginning, then what the last call gave"""


class Episodes(NamedTuple):
    """The return and the length of each episode."""

    returns: list[float]
    lengths: list[int]

    @property
    def success(self) -> float:
        """The share of episodes with a positive return, in [0, 1]."""
        return float(np.mean(np.array(self.returns) > 0))


def at_random(name: str) -> Logits:
    """Equal logits for every action of the environment."""
    actions = make(name, 1).actions
    return lambda observations, state: (torch.zeros(len(observations), actions), state)


def play(logits: Logits, name: str, seeds: Sequence[int], generator: torch.Generator) -> Episodes:
    """One episode of the environment for each seed, its actions drawn from softmax(logits(observations, …)).

    Layouts of gridworlds are those that MiniGrid's own `reset(seed=…)` makes; the compiled rules play them. An agent
    without memory that always takes its best action can be caught in a circle: actions are drawn.
    """
    return (in_gridworlds if name in TASKS else one_by_one)(logits, name, seeds, generator)


def in_gridworlds(logits: Logits, name: str, seeds: Sequence[int], generator: torch.Generator) -> Episodes:
    """All episodes side by side, in compiled worlds."""
    copies, own = GridworldCopies(name, len(seeds)), stock(name)
    copies.reset(0)
    for i, seed in enumerate(seeds):
        own.reset(seed=seed)
        put(copies.worlds, i, own)
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    running = np.ones(len(seeds), bool)
    state = None
    while running.any():
        found, state = logits(copies.observe(), state)
        actions = torch.multinomial(found.softmax(1), 1, generator=generator)[:, 0].numpy()
        step = copies.step(actions)
        returns += step.rewards * running
        lengths += running
        running &= ~step.ended
    return Episodes(returns.tolist(), lengths.tolist())


def one_by_one(logits: Logits, name: str, seeds: Sequence[int], generator: torch.Generator) -> Episodes:
    """The episodes one after another, in any environment of Gymnasium's."""
    seen: Seen = make(name, 1).seen
    environment = one(name)
    returns, lengths = [], []
    for seed in seeds:
        observation, _ = environment.reset(seed=seed)
        total, length, ended, state = 0.0, 0, False, None
        while not ended:
            found, state = logits(read(seen, observation), state)
            action = torch.multinomial(found.softmax(1), 1, generator=generator)
            observation, reward, terminated, truncated, _ = environment.step(int(action))
            total, length, ended = total + float(reward), length + 1, terminated or truncated
        returns.append(total)
        lengths.append(length)
    return Episodes(returns, lengths)
