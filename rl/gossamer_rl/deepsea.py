"""DeepSea (Osband et al. 2020), bsuite's exploration task, for Gymnasium: ids DeepSea2-v0 to DeepSea100-v0.

The agent sinks through N × N cells, a row each step, and goes left or right as one of two actions says, which one is
another in each cell. Going right costs 0.01 / N; at the right of the last row it gives 1. One policy in 2ᴺ finds that.
"""

from typing import Any

import gymnasium
import numpy as np

SIZES = range(2, 101)
MAPPING_SEED = 42
"""bsuite's, in its sweep over sizes"""


class DeepSea(gymnasium.Env[Any, Any]):
    """bsuite's DeepSea of `size` rows, without chance; what is seen is the number of the cell, row · size + column."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.right = np.random.RandomState(MAPPING_SEED).binomial(1, 0.5, (size, size))
        self.observation_space = gymnasium.spaces.Discrete(size * size)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.row = self.column = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin at the top left."""
        super().reset(seed=seed)
        self.row = self.column = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Sink by a row; nothing is below the last row: an episode that ends shows a cell of it."""
        reward, right = 0.0, action == self.right[self.row, self.column]
        if right:
            reward = (self.column == self.size - 1) - 0.01 / self.size
        self.column = min(max(self.column + (1 if right else -1), 0), self.size - 1)
        self.row += 1
        over = self.row == self.size
        cell = min(self.row, self.size - 1) * self.size + self.column
        return cell, float(reward), over, False, {}


for size in SIZES:
    gymnasium.register(f"DeepSea{size}-v0", f"{__name__}:DeepSea", kwargs={"size": size}, max_episode_steps=size)
